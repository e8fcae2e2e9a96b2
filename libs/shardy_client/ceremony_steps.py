"""The steps of a ceremony as programs take them: each fetches what it begins with, runs the script, stores what came of
it, and tells the mesh.

mesh: with a key that may store bytes (submit); operating: with the operator's. work: a folder for keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shardy_client.ceremony import Examiner, Finding, Say, Script, Told, digest_of, fetch, put, tell, told_of
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.mesh import AsyncMesh


class Steps:
    def __init__(self, mesh: AsyncMesh, script: Script, circuit: str, work: Path, say: Say) -> None:
        self.mesh, self.script, self.circuit, self.work, self.say = mesh, script, circuit, work, say

    async def start(self, operating: AsyncMesh, r1cs: Path, ptau: Path, again: bool, unpublished: bool) -> Told:
        """unpublished: take powers of tau that circuits/powers.json does not list."""
        recorded = self.script.recorded(self.circuit)
        if recorded and recorded != digest_of(r1cs):
            raise InvalidInput(
                f"{r1cs} is not the {self.circuit} that circuits/constraints.json records: compile it anew"
            )
        powers = await self.script.step("digest", ptau)
        if not powers.get("published") and not unpublished:
            raise InvalidInput(
                f"{ptau} is none of the powers of tau that circuits/powers.json lists: whoever made it may know its"
                " randomness. Take a published one, or say --unpublished for a trial"
            )
        self.say(f"making the first key of {self.circuit}")
        await self.script.step("start", r1cs, ptau, self.work / "0.zkey")
        body = {
            "circuit": self.circuit,
            "r1cs": await put(self.mesh.http, r1cs),
            "ptau": powers["blake2b"],
            "powers": powers["published"],
            "zkey": await put(self.mesh.http, self.work / "0.zkey"),
            "again": again,
        }
        return await operating.http.json("POST", "/v1/ceremonies", json=body, repeat=True)

    async def contribute(self, name: str) -> dict[str, Any]:
        """The contribution as it is recorded: circuit, number, run, name, hash, base, zkey."""
        told, base = await self._newest()
        if told["state"] != "open":
            raise ShardyError(
                f"run {told['run']} of {self.circuit} is {told['state']}: it takes no further contribution"
            )
        known = Examiner(self.mesh.http, self.script, told, base, base, self.work, self.say)
        if why := known.unlike(len(known.steps) - 1, await self.script.contributions(base)):
            raise ShardyError(
                f"{why}: run `shardy ceremony verify {self.circuit}`, and tell the operator what it finds"
            )
        self.say(f"contributing to run {told['run']}, which takes a while")
        await self.script.step("contribute", base, self._made, name)
        step = {"run": told["run"], "name": name, "base": told["zkey"], **await self._stored()}
        after = await tell(self.mesh.http, self.circuit, "contributions", step)
        number = next(one["number"] for one in after["contributions"] if one["zkey"] == step["zkey"])
        return {"circuit": self.circuit, "number": number, **step}

    async def seal(self, operating: AsyncMesh, value: str, iterations: int) -> Told:
        """value: the beacon in hex."""
        told, base = await self._newest()
        await self.script.step("beacon", base, self._made, value, str(iterations))
        step = {"run": told["run"], "value": value, "iterations": iterations, "base": told["zkey"]}
        return await tell(operating.http, self.circuit, "beacon", step | await self._stored())

    async def verify(self, ptau: Path, r1cs: Path | None) -> tuple[Told, Finding]:
        """r1cs: of one's own; otherwise what the mesh stores."""
        told = await told_of(self.mesh.http, self.circuit)
        found = await self.script.step("digest", ptau)
        if found.get("blake2b") != told["ptau"]:
            name = told["powers"] or f"those with the BLAKE2b {told['ptau']}"
            raise InvalidInput(f"{ptau} is not what this ceremony began with: take {name}")
        if r1cs is None:
            r1cs = await fetch(self.mesh.http, told["r1cs"], self.work / "circuit.r1cs")
        elif digest_of(r1cs) != told["r1cs"]:
            raise InvalidInput(f"{r1cs} is not the circuit of this ceremony, whose BLAKE3 is {told['r1cs']}")
        known = Examiner(self.mesh.http, self.script, told, r1cs, ptau, self.work, self.say)
        return told, await known.examine()

    async def finish(self, operating: AsyncMesh, told: Told, vk: Path, zkey: Path | None) -> dict[str, Any]:
        """Of a run that was found good: write its keys. {run, zkey, vk_hash} and the verification key under "vk"."""
        from shardy_common.verifiers import checked_key

        final = await fetch(self.mesh.http, told["zkey"], zkey or self.work / "final.zkey")
        await self.script.step("export", final, self.work / "vk.json")
        text = (self.work / "vk.json").read_text()
        known = json.loads(text)
        step = {"run": told["run"], "zkey": told["zkey"], "vk_hash": checked_key(known).vk_hash}
        vk.write_text(text)
        await tell(operating.http, self.circuit, "finish", step)
        return step | {"vk": known}

    @property
    def _made(self) -> Path:
        return self.work / "made.zkey"

    async def _newest(self) -> tuple[Told, Path]:
        told = await told_of(self.mesh.http, self.circuit)
        return told, await fetch(self.mesh.http, told["zkey"], self.work / "base.zkey")

    async def _stored(self) -> dict[str, str]:
        """The hash by which the newest step is known, and the digest of the key that it made."""
        shown = (await self.script.contributions(self._made))[-1]["transcript"]
        return {"hash": shown, "zkey": await put(self.mesh.http, self._made)}


async def report(mesh: AsyncMesh, told: Told, found: Finding) -> None:
    """Tell the mesh what was found, under this key."""
    body: dict[str, Any] = {"run": told["run"], "zkey": told["zkey"], "good": found.good, "fault": found.fault}
    if not found.good:
        body["why"] = f"{found.what}: {found.why}"
    await tell(mesh.http, told["circuit"], "checks", body)
