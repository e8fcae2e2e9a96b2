"""Ceremonies over a running mesh: the commands as operators and contributors use them, races, tampering, a rebuild.

All that needs powers of tau for a circuit of products is in this file, since making them takes a minute: once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ceremony_kit import powers, tiny_r1cs

from shardy_client.ceremony import Script, put, tell, told_of
from shardy_client.ceremony_steps import Steps, report
from shardy_client.errors import InvalidInput, Refused, ShardyError
from shardy_client.mesh import AsyncMesh
from shardy_common.rebuild import rebuild_command
from shardy_common.stack import Stack

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("mesh"), gateways=2) as running:
        yield running


@dataclass
class Place:
    """A circuit with its powers, and a mesh to hold its ceremony on. mesh: its own key; operating: the operator's."""

    stack: Stack
    script: Script
    circuit: str
    r1cs: Path
    ptau: Path
    folder: Path
    mesh: AsyncMesh
    operating: AsyncMesh

    def steps(self, name: str, mesh: AsyncMesh | None = None) -> Steps:
        work = self.folder / name
        work.mkdir(parents=True, exist_ok=True)
        for left in work.glob("*.zkey"):
            left.unlink()
        return Steps(mesh or self.mesh, self.script, self.circuit, work, lambda _text: None)

    async def start(self, again: bool = False) -> dict[str, Any]:
        return await self.steps("start").start(self.operating, self.r1cs, self.ptau, again, True)

    async def told(self) -> dict[str, Any]:
        return await told_of(self.mesh.http, self.circuit)

    async def shardy(self, *words: str | Path, code: int = 0) -> tuple[str, str]:
        """A command, its exit code expected; standard output and error."""
        keys = ["--url", self.stack.url, "--key", self.stack.api_key, "--circuits", self.script.folder]
        if words[0] in ("start", "beacon", "finish"):
            keys += ["--operator-key", self.stack.operator_key]
        if words[0] in ("show", "list"):
            keys = keys[:4]
        command = [sys.executable, "-m", "shardy_client.cli", "ceremony", *map(str, words), *map(str, keys)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=self.folder)
        out, err = await process.communicate()
        assert process.returncode == code, (words, out.decode(), err.decode())
        return out.decode(), " ".join(err.decode().split())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny_files(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Constraints and powers of the circuit of one multiplication."""
    ptau = await asyncio.to_thread(powers, builder.FOLDER, 4, tmp_path_factory.mktemp("powers"))
    return await asyncio.to_thread(tiny_r1cs, builder), ptau


@pytest_asyncio.fixture(loop_scope="module")
async def place(
    stack: Stack, builder: Any, tiny_files: tuple[Path, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Place]:
    """For a ceremony of the test's own."""
    circuit = request.node.name[:60]
    async with AsyncMesh(stack.url, stack.api_key) as mesh, AsyncMesh(stack.url, stack.operator_key) as operating:
        yield Place(stack, Script(builder.FOLDER), circuit, *tiny_files, tmp_path, mesh, operating)


def flipped(path: Path, at: int) -> None:
    """One bit of the file is another."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


async def tampered(place: Place, name: str) -> str:
    """A contribution with one bit of its key changed, recorded as if it were right; the key's digest."""
    steps, told = place.steps(name), await place.told()
    await steps._newest()
    await place.script.step("contribute", steps.work / "base.zkey", steps._made, name)
    flipped(steps._made, steps._made.stat().st_size // 2)
    step = {"run": told["run"], "name": name, "base": told["zkey"], **await steps._stored()}
    await tell(place.mesh.http, place.circuit, "contributions", step)
    return str(step["zkey"])


async def test_of_two_on_one_key_the_first_counts(place: Place, stack: Stack) -> None:
    await place.start()
    async with AsyncMesh(stack.urls[1], stack.api_key) as other:
        tries = (place.steps("Ada").contribute("Ada"), place.steps("Bo", other).contribute("Bo"))
        done = await asyncio.gather(*tries, return_exceptions=True)
        won = [one for one in done if isinstance(one, dict)]
        lost = [one for one in done if isinstance(one, Refused)]
        assert len(won) == len(lost) == 1, done
        assert lost[0].status == 409 and lost[0].problem == "/problems/ceremony-has-moved-on"
        assert "built on that key before: begin again on the newest" in str(lost[0]) and won[0]["name"] in str(lost[0])
        late = "Bo" if won[0]["name"] == "Ada" else "Ada"
        second = await place.steps(late, other).contribute(late)
    assert second["number"] == 2 and second["base"] == won[0]["zkey"]
    told = await place.told()
    assert [one["hash"] for one in told["contributions"]] == [won[0]["hash"], second["hash"]]


async def test_a_tampered_contribution_is_found_and_named(place: Place) -> None:
    await place.start()
    await place.steps("Ada").contribute("Ada")
    await tampered(place, "Bo")
    await place.steps("Cyd").contribute("Cyd")
    out, err = await place.shardy("verify", place.circuit, "--ptau", place.ptau, code=1)
    assert not out and "not good: contribution 2 of Bo: snarkjs finds" in err
    told = await place.told()
    (check,) = told["checks"]
    assert (check["good"], check["fault"]) == (False, 2) and "contribution 2 of Bo" in check["why"]
    shown, _ = await place.shardy("show", place.circuit)
    assert "says that step 2 is wrong: contribution 2 of Bo" in shown
    out, err = await place.shardy("start", place.circuit, "--ptau", place.ptau, "--r1cs", place.r1cs, code=2)
    assert "powers.json" in err and "--unpublished" in err
    start = ("start", place.circuit, "--ptau", place.ptau, "--r1cs", place.r1cs, "--unpublished")
    _, err = await place.shardy(*start, code=4)
    assert "run 1" in err and "3 contributions" in err
    out, _ = await place.shardy(*start, "--again", "--json")
    assert json.loads(out)["run"] == 2 and json.loads(out)["contributions"] == []
    with pytest.raises(Refused, match=r"run 1 of .* was given up for run 2"):
        await tell(place.mesh.http, place.circuit, "contributions", {
            "run": 1, "name": "Dee", "hash": "0" * 128, "base": told["zkey"], "zkey": told["start"]})  # fmt: skip
    former, _ = await place.shardy("show", place.circuit, "--run", "1", "--json")
    assert json.loads(former) == {**told, "state": "replaced"}


async def test_a_rebuild_tells_the_same(place: Place, stack: Stack) -> None:
    await place.start()
    await place.steps("Ada").contribute("Ada")
    await place.start(again=True)
    await place.steps("Bo").contribute("Bo")
    before = [await told_of(place.mesh.http, place.circuit, run) for run in (0, 1)]
    rebuilt = await asyncio.to_thread(rebuild_command, stack.data_dir, "gateway")
    assert [one["service"] for one in rebuilt] == ["gateway", "gateway"]
    assert [await told_of(place.mesh.http, place.circuit, run) for run in (0, 1)] == before
    assert before[0]["run"] == 2 and before[1]["state"] == "replaced"


async def test_a_transcript_that_says_what_the_key_does_not(place: Place) -> None:
    """Whoever contributes next is warned; verify names the contribution, whatever came after it."""
    await place.start()
    steps = place.steps("Ada")
    told, base = await steps._newest()
    await place.script.step("contribute", base, steps._made, "Ada")
    step = {"run": 1, "name": "Ada", "base": told["zkey"], **await steps._stored()}
    await tell(place.mesh.http, place.circuit, "contributions", step | {"hash": "ab" * 64})
    with pytest.raises(ShardyError, match="what the key says of contribution 1 of Ada is not what the log says"):
        await place.steps("Bo").contribute("Bo")
    told, found = await place.steps("verify").verify(place.ptau, place.r1cs)
    assert (found.good, found.fault, found.what) == (False, 1, "contribution 1 of Ada")
    await report(place.mesh, told, found)
    assert "what the key says of" in (await place.told())["checks"][0]["why"]


async def test_a_start_that_does_not_follow(place: Place) -> None:
    """The operator is looked at as everybody else is."""
    script, work = place.script, place.steps("start").work
    await script.step("start", place.r1cs, place.ptau, work / "0.zkey")
    flipped(work / "0.zkey", (work / "0.zkey").stat().st_size // 2)
    powers_ = await script.step("digest", place.ptau)
    body = {"circuit": place.circuit, "ptau": powers_["blake2b"]}
    body |= {"r1cs": await put(place.mesh.http, place.r1cs), "zkey": await put(place.mesh.http, work / "0.zkey")}
    await place.operating.http.json("POST", "/v1/ceremonies", json=body)
    await place.steps("Ada").contribute("Ada")
    _, found = await place.steps("verify").verify(place.ptau, None)
    assert (found.good, found.fault, found.what) == (False, 0, "the start")


async def test_what_a_verifier_must_bring(place: Place, builder: Any) -> None:
    await place.start()
    other = await asyncio.to_thread(powers, builder.FOLDER, 4, place.folder)
    with pytest.raises(InvalidInput, match="is not what this ceremony began with"):
        await place.steps("verify").verify(other, None)
    copy = place.folder / "copy.r1cs"
    copy.write_bytes(place.r1cs.read_bytes())
    flipped(copy, 70)
    with pytest.raises(InvalidInput, match="is not the circuit of this ceremony"):
        await place.steps("verify").verify(place.ptau, copy)
