"""Ceremonies from a contributor's and an operator's side: keys come and go as blobs, their transcript stands in the
mesh's log, and what is done to them is done by circuits/ceremony.mjs, a program of its own under its own licence.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from blake3 import blake3

from shardy_client.arrays import byte_view
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.files import whole_file
from shardy_client.looks import given, part
from shardy_client.transport import Http
from shardy_client.upload import store

SCRIPT = "ceremony.mjs"
BLOCK_BYTES = 1 << 20
WORDS_CHARS_MAX = 400  # of the script, in a line of ours
Told = dict[str, Any]  # a transcript, as the mesh tells it
Say = Callable[[str], None]


def circuits_folder(named: Path | None = None) -> Path:
    """Where ceremony.mjs lies, ready to run: the folder named, SHARDY_CIRCUITS, ./circuits, or that of these sources.

    InvalidInput says how to get what is missing.
    """
    wanted = named or (Path(os.environ["SHARDY_CIRCUITS"]) if os.environ.get("SHARDY_CIRCUITS") else None)
    places = [wanted] if wanted else [Path("circuits"), Path(__file__).resolve().parents[2] / "circuits"]
    folder = next((place.resolve() for place in places if (place / SCRIPT).is_file()), None)
    if folder is None:
        raise InvalidInput(
            f"there is no {SCRIPT} in {places[0]}: get the folder circuits/ of Shardy's sources (it is GPL-3.0, and so"
            " no part of this package), and name it by --circuits or SHARDY_CIRCUITS"
        )
    if shutil.which("node") is None:
        raise InvalidInput("Node.js is needed for ceremonies: install version 20 or newer, so that `node` is found")
    if not (folder / "node_modules" / "snarkjs").is_dir():
        raise InvalidInput(f"snarkjs is not installed: run `npm ci` in {folder}")
    return folder


class Script:
    """circuits/ceremony.mjs. folder: where it lies (circuits_folder)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def step(self, *words: str | Path) -> dict[str, Any]:
        """Run a step; what it prints, where that is JSON. ShardyError with its own words where it refuses."""
        done = await asyncio.to_thread(self._run, *words)
        if done.returncode:
            said = " ".join(done.stderr.split())[-WORDS_CHARS_MAX:]
            kind = Unsound if done.returncode == 1 else ShardyError
            raise kind(said or f"node {SCRIPT} {words[0]} ended with status {done.returncode}, and said nothing")
        try:
            found = json.loads(done.stdout)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["node", str(self.folder / SCRIPT), *(str(w.absolute()) if isinstance(w, Path) else w for w in words)]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ShardyError(f"cannot run node: {error.strerror or error}") from None

    async def contributions(self, zkey: Path) -> list[dict[str, Any]]:
        """Who contributed, as the key says: kind, name, transcript, and of a beacon its value and iterations."""
        found = (await self.step("list", zkey)).get("contributions")
        return found if isinstance(found, list) else []

    def recorded(self, circuit: str) -> str:
        """The BLAKE3 of the circuit's constraints, as circuits/constraints.json has it; empty where it does not."""
        try:
            return str(json.loads((self.folder / "constraints.json").read_text())["circuits"][circuit]["r1cs_blake3"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


class Unsound(ShardyError):
    """What the script refused: a key, or files that do not belong together."""


# -- the mesh ---------------------------------------------------------------------------------------------------------


async def told_of(http: Http, circuit: str, run: int = 0) -> Told:
    """The transcript of a circuit's newest run, or of another."""
    return await http.json("GET", _path(circuit), params=given(run=run or None))


async def listed(http: Http, limit: int, after: str | None) -> dict[str, Any]:
    """The newest run of each circuit."""
    return await http.json("GET", "/v1/ceremonies", params=given(limit=limit, after=after))


async def tell(http: Http, circuit: str, step: str, body: dict[str, Any]) -> Told:
    """Record a step: contributions, beacon, checks or finish. Steps may be told twice."""
    return await http.json("POST", f"{_path(circuit)}/{step}", json=body, repeat=True)


def _path(circuit: str) -> str:
    return f"/v1/ceremonies/{part(circuit, 'circuit; `shardy ceremony list` lists them')}"


async def fetch(http: Http, digest: str, path: Path) -> Path:
    """A blob as a file; ShardyError where the bytes are not those of the digest."""
    hasher = blake3()
    with whole_file(path) as file:

        def begin(_length: int | None) -> Callable[[bytes], object]:
            hasher.reset()
            file.seek(0)
            file.truncate()

            def take(data: bytes) -> None:
                hasher.update(data)
                file.write(data)

            return take

        await http.download(f"/v1/blobs/{digest}", begin)
        if hasher.hexdigest() != digest:
            raise ShardyError(f"the mesh sent other bytes than those of {digest}")
    return path


async def put(http: Http, path: Path) -> str:
    """Store a file; its digest."""
    digest = await asyncio.to_thread(digest_of, path)
    await store(http, path.name, digest, byte_view(np.memmap(path, np.uint8, "r")))
    return digest


def digest_of(path: Path) -> str:
    """hex BLAKE3 of a file of any size that is not empty."""
    hasher, size = blake3(), 0
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                hasher.update(block)
                size += len(block)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    if not size:
        raise InvalidInput(f"{path} is empty")
    return hasher.hexdigest()


# -- what is looked at ------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A key of the chain and the step that made it. hash, value, iterations: as the log has them."""

    what: str
    kind: str
    name: str
    hash: str
    base: str
    zkey: str
    value: str = ""
    iterations: int = 0

    def like(self, said: dict[str, Any]) -> bool:
        """Whether a key's own list says the same of it."""
        if (said.get("kind"), said.get("transcript")) != (self.kind, self.hash):
            return False
        if self.kind == "beacon":
            return (said.get("beacon"), said.get("iterations")) == (self.value, self.iterations)
        return said.get("name") == self.name


def steps_of(told: Told) -> Iterator[Step]:
    """The start, each contribution, and the beacon if there is one."""
    yield Step("the start", "", "", "", "", told["start"])
    for one in told["contributions"]:
        what = f"contribution {one['number']} of {one['name']}"
        yield Step(what, "person", one["name"], one["hash"], one["base"], one["zkey"])
    if last := told["beacon"]:
        head = (last["hash"], last["base"], last["zkey"], last["value"], last["iterations"])
        yield Step("the beacon", "beacon", "", *head)


class Finding(NamedTuple):
    """fault: the number of the step with which it goes wrong (0 is the start), and what: that step in words."""

    good: bool
    fault: int = 0
    what: str = ""
    why: str = ""


class Examiner:
    """Checks a transcript with the keys that it names. work: a folder for them; r1cs, ptau: what all began with."""

    def __init__(self, http: Http, script: Script, told: Told, r1cs: Path, ptau: Path, work: Path, say: Say) -> None:
        self.http, self.script, self.told, self.work, self.say = http, script, told, work, say
        self.r1cs, self.ptau = r1cs, ptau
        self.steps = list(steps_of(told))

    async def examine(self) -> Finding:
        """Whether all is well; if not, the first step with which it is not."""
        recorded = self.script.recorded(self.told["circuit"])
        if recorded and recorded != self.told["r1cs"]:
            return self._finding(0, "its constraints are not those that circuits/constraints.json records")
        for number, (before, step) in enumerate(zip(self.steps, self.steps[1:], strict=False), 1):
            if step.base != before.zkey:
                return self._finding(number, "it does not begin with the key that was made before it")
        last = len(self.steps) - 1
        why = await self.wrong(last)
        if not why:
            return Finding(True)
        # One step makes a wrong key of a right one, and halving finds it: `well` is right or before the start.
        well, ill = -1, last
        while ill - well > 1:
            middle = (well + ill) // 2
            found = await self.wrong(middle)
            if found:
                ill, why = middle, found
            else:
                well = middle
        return self._finding(ill, why)

    async def wrong(self, number: int) -> str:
        """What is wrong with the key after this step; empty where nothing is."""
        self.say(f"checking the key after {self.steps[number].what}")
        zkey = await fetch(self.http, self.steps[number].zkey, self.work / f"{number}.zkey")
        try:
            said = await self.script.contributions(zkey)
            if why := self.unlike(number, said):
                return why
            sealed = self.steps[number].kind == "beacon"
            await self.script.step("verify" if sealed else "check", self.r1cs, self.ptau, zkey)
        except Unsound:
            return "snarkjs finds that the key does not follow from the powers, the constraints and what it lists"
        finally:
            zkey.unlink(missing_ok=True)
        return ""

    def unlike(self, number: int, said: list[dict[str, Any]]) -> str:
        """Where a key's own list differs from the log's up to this step."""
        wanted = self.steps[1 : number + 1]
        if len(said) != len(wanted):
            return f"the key lists {len(said)} contributions where the log has {len(wanted)}"
        for step, one in zip(wanted, said, strict=True):
            if not step.like(one):
                return f"what the key says of {step.what} is not what the log says"
        return ""

    def _finding(self, number: int, why: str) -> Finding:
        return Finding(False, number, self.steps[number].what, why)
