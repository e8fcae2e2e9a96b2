"""Ceremonies over a running mesh: the commands as operators and contributors use them, the page for contributors,
races, tampering, a rebuild.

All that needs powers of tau for a circuit of products is in this file, since making them takes a minute: once.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ceremony_kit import BEACON, powers, snarkjs, tiny_r1cs

from shardy_client.ceremony import Script, put, tell, told_of
from shardy_client.ceremony_steps import Steps, report
from shardy_client.errors import InvalidInput, Refused, ShardyError
from shardy_client.mesh import AsyncMesh
from shardy_common.blob_usage import usage
from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.signals import Circuit
from shardy_common.proofs.verifier import Verifier
from shardy_common.rebuild import rebuild_command
from shardy_common.stack import Stack

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]
CHROMIUM = os.environ.get("SHARDY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
MOVES = 100


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True, capture_output=True, timeout=600)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """With the contributors' page."""
    await asyncio.to_thread(run, "node", "contribute/build.mjs", cwd=builder.FOLDER)
    env = {"SHARDY_CEREMONY_DIR": str(builder.BUILD / "contribute")}
    async with Stack(tmp_path_factory.mktemp("mesh"), gateways=2, env=env) as running:
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


@pytest_asyncio.fixture(loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    """Chromium; none where there is none."""
    try:
        from playwright import async_api
    except ImportError:
        async_api = None
    if not CHROMIUM or async_api is None:
        yield None
        return
    flags = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    async with async_api.async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield running
        await running.close()


class Page:
    """The contributors' page, opened and looked at with a key."""

    def __init__(self, browser: Any, place: Place) -> None:
        self.browser, self.place = browser, place
        self.wrong: list[str] = []
        self.sent: list[tuple[str, str]] = []

    async def open(self, key: str) -> Any:
        self.page = page = await self.browser.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.sent.append((request.method, request.url)))
        await page.goto(f"{self.place.stack.url}/ceremony/?circuit={self.place.circuit}")
        await page.fill("#key", key)
        await page.click("#look")
        return page

    async def contribute(self, name: str) -> None:
        """Fill in, move the mouse, press the button."""
        await self.page.fill("#name", name)
        assert await self.page.is_disabled("#contribute"), "no contribution before the mouse was moved"
        for at in range(MOVES):
            await self.page.mouse.move(20 + at * 3, 40 + (at * at) % 300)
        await self.page.click("#contribute")

    async def says(self, words: str) -> str:
        """Wait until the page's status has these words; all of it."""
        script = "words => document.querySelector('#status').textContent.includes(words)"
        try:
            await self.page.wait_for_function(script, arg=words, timeout=120_000)
        except Exception as error:
            text = await self.page.text_content("#status")
            raise AssertionError(f"the page never said {words!r}: {text!r}, {self.wrong}") from error
        return str(await self.page.text_content("#status"))


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
    out, err = await place.shardy("verify", place.circuit, "--ptau", place.ptau, "--json", code=1)
    assert "not good: contribution 2 of Bo: snarkjs finds" in err
    found = json.loads(out)
    assert (found["good"], found["fault"], found["what"]) == (False, 2, "contribution 2 of Bo") and found["reported"]
    told = await place.told()
    (check,) = told["checks"]
    assert (check["good"], check["fault"]) == (False, 2) and "contribution 2 of Bo" in check["why"]
    shown, _ = await place.shardy("show", place.circuit)
    assert "says that step 2 is wrong: contribution 2 of Bo" in shown
    out, err = await place.shardy("start", place.circuit, "--ptau", place.ptau, "--r1cs", place.r1cs, code=2)
    assert "powers.json" in err and "--unpublished" in err
    start = ("start", place.circuit, "--ptau", place.ptau, "--r1cs", place.r1cs, "--unpublished")
    with pytest.raises(Refused, match=r"run 1 of .* is open, with 3 contributions"):
        await place.start()
    out, _ = await place.shardy(*start, "--again", "--json")
    assert json.loads(out)["run"] == 2 and json.loads(out)["contributions"] == []
    with pytest.raises(Refused, match=r"run 1 of .* was given up for run 2"):
        await tell(place.mesh.http, place.circuit, "contributions", {
            "run": 1, "name": "Dee", "hash": "0" * 128, "base": told["zkey"], "zkey": told["start"]})  # fmt: skip
    assert await told_of(place.mesh.http, place.circuit, 1) == {**told, "state": "replaced"}


async def test_a_rebuild_tells_the_same(place: Place, stack: Stack) -> None:
    stored = await usage(stack.data_dir, 0.0)
    await place.start()
    await place.steps("Ada").contribute("Ada")
    await place.start(again=True)
    await place.steps("Bo").contribute("Bo")
    later = await usage(stack.data_dir, 0.0)
    assert later["blobs"] > stored["blobs"] and later["unnamed_blobs"] == stored["unnamed_blobs"], "keys are named"
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


@pytest.mark.browser
async def test_the_page_for_contributors(place: Place, browser: Any) -> None:
    """It contributes as the command does, speaks to the mesh alone, and says what to do where it was too slow."""
    if browser is None:
        pytest.skip("no Chromium with playwright on this machine (SHARDY_CHROMIUM names one)")
    await place.start()
    await place.steps("Ada").contribute("Ada")
    view = Page(browser, place)
    page = await view.open("wrong")
    await view.says("key")
    assert await page.is_hidden("#part") and view.wrong.pop().count("401"), "the browser's own word of it"
    await page.fill("#key", place.stack.api_key)
    await page.click("#look")
    await view.says(f"Run 1 of {place.circuit} is open")
    assert "Ada" in str(await page.text_content("#steps"))

    held = asyncio.Event()

    async def too_late(route: Any) -> None:
        if not held.is_set():  # somebody else is faster than the first try
            await place.steps("Bo").contribute("Bo")
            held.set()
        await route.continue_()

    await page.route("**/contributions", too_late)
    await view.contribute("Cyd")
    assert "contribution 2 of Bo built on that key before" in await view.says("contribute again")
    assert view.wrong.pop().count("409") and await page.is_hidden("#done")
    await view.contribute("Cyd")
    await view.says("Contribution 3 is recorded")
    told = await place.told()
    assert [one["name"] for one in told["contributions"]] == ["Ada", "Bo", "Cyd"]
    assert await page.text_content("#hash") == told["contributions"][2]["hash"]
    assert view.wrong == []
    assert all(url.startswith((place.stack.url, "blob:", "data:")) for _, url in view.sent), view.sent
    assert {method for method, _ in view.sent} == {"GET", "PUT", "POST"}
    out, _ = await place.shardy("verify", place.circuit, "--ptau", place.ptau, "--r1cs", place.r1cs)
    assert "is good: its newest key follows from every step" in out
    assert [check["good"] for check in (await place.told())["checks"]] == [True], "it told the mesh"


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_whole_ceremony_at_the_smallest_size(
    place: Place, builder: Any, compiled: Any, random_case: Any, browser: Any
) -> None:
    """Two people by the command, one in a browser, a beacon: the key is registered, and a proof under it holds for the
    mesh's verifier as for snarkjs; with another result's signals it does not."""
    shape, folder = Circuit(8, 8, 8), place.folder
    circuit = await asyncio.to_thread(compiled, 8, 8, 8)
    ptau = await asyncio.to_thread(powers, builder.FOLDER, 12, folder)
    place = replace(place, circuit=shape.name, r1cs=circuit.folder / f"{shape.name}.r1cs", ptau=ptau)

    out, _ = await place.shardy("start", shape.name, "--ptau", ptau, "--unpublished")
    assert "shardy ceremony contribute v2-8x8x8" in out
    printed = {}
    for name in ("Ada", "Bo"):
        out, _ = await place.shardy("contribute", shape.name, "--name", name)
        printed[name] = out.split()[-1]
    _, err = await place.shardy("beacon", shape.name, BEACON, code=1)
    assert "too early for the beacon: 2 contributions of people" in err
    if browser is None:  # the rest is worth a test without one
        printed["Cyd"] = str((await place.steps("Cyd").contribute("Cyd"))["hash"])
    else:
        view = Page(browser, place)
        page = await view.open(place.stack.api_key)
        await view.says("is open")
        await view.contribute("Cyd")
        await view.says("Contribution 3 is recorded")
        printed["Cyd"] = str(await page.text_content("#hash"))
        assert view.wrong == []
    out, _ = await place.shardy("beacon", shape.name, BEACON)
    assert "sealed" in out
    _, err = await place.shardy("contribute", shape.name, "--name", "Dee", code=1)
    assert "is sealed: it takes no further contribution" in err

    finish = ("finish", shape.name, "--ptau", ptau, "--vk", folder / "vk.json", "--zkey", folder / "final.zkey")
    out, _ = await place.shardy(*finish, "--version", "from-a-ceremony", "--json")
    told = await place.told()
    assert told["state"] == "finished" and told["vk_hash"] == json.loads(out)["vk_hash"]
    assert {one["name"]: one["hash"] for one in told["contributions"]} == printed
    assert [check["good"] for check in told["checks"]] == [True], "whoever finishes has verified"
    shown, _ = await place.shardy("show", shape.name)
    assert all(one in shown for one in printed.values()) and "found all well" in shown
    version = await place.operating.verifier("from-a-ceremony")
    assert version["shape"] == [8, 8, 8] and version["vk_hash"] == told["vk_hash"] and not version["dev"]

    case = random_case(shape, 21)
    (folder / "inputs.json").write_text(json.dumps([case.inputs.as_json()]))
    words = ("node", "witness.mjs", circuit.folder, folder / "inputs.json", folder)
    await asyncio.to_thread(run, *words, cwd=builder.FOLDER)
    proof, public = folder / "proof.json", folder / "public.json"
    words = ("groth16", "prove", folder / "final.zkey", folder / "0.wtns", proof, public)
    await asyncio.to_thread(snarkjs, builder.FOLDER, *words)
    assert json.loads(public.read_text()) == [str(value) for value in case.signals]
    files = (folder / "vk.json", public, proof)
    assert "OK!" in await asyncio.to_thread(snarkjs, builder.FOLDER, "groth16", "verify", *files)
    verifier = Verifier()
    key = verifier.add_key(parse_vkey(version["vk"].encode()))
    parsed, signals = parse_proof(proof.read_bytes()), parse_publics(public.read_bytes())
    assert verifier.verify(key, parsed, signals)
    assert not verifier.verify(key, parsed, [signals[0] + 1, *signals[1:]])
    public.write_text(json.dumps([str(case.signals[0] + 1), *map(str, case.signals[1:])]))
    with pytest.raises(subprocess.CalledProcessError):
        await asyncio.to_thread(snarkjs, builder.FOLDER, "groth16", "verify", *files)
