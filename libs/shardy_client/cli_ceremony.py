"""`shardy ceremony`: how a circuit gets keys whose randomness nobody holds, for operators and contributors."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client.ceremony import Script, Told, circuits_folder, listed, told_of
from shardy_client.ceremony_steps import Steps, report
from shardy_client.cli_common import (
    URL,
    AsJson,
    Key,
    Url,
    ago,
    bounded,
    command,
    entries,
    err,
    facts,
    line,
    print_json,
    table,
    with_mesh,
)
from shardy_client.cli_operate import alone
from shardy_client.cli_verifiers import sides_of
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.files import writable
from shardy_client.mesh import AsyncMesh
from shardy_client.transport import operator_key

ceremony = typer.Typer(
    invoke_without_command=True,
    help="Make keys for proofs whose randomness nobody holds: start, contribute (three people or more), beacon, verify,"
    " finish. Alone, lists what is under way.\n\n"
    "Needs Node.js and the folder circuits/ of Shardy's sources. Contributing takes an ordinary API key; starting, the"
    " beacon and finishing the operator's beside it.",
)

Circuit = Annotated[
    str, typer.Argument(help="The circuit, such as v2-8x384x8.", metavar="CIRCUIT", autocompletion=complete.ceremonies)
]
Circuits = Annotated[
    Path | None,
    typer.Option(
        "--circuits",
        envvar="SHARDY_CIRCUITS",
        help="The folder circuits/ of the sources, with `npm ci` done in it.",
        show_default="./circuits",
    ),
]
Ptau = Annotated[
    Path,
    typer.Option("--ptau", help="The powers of tau, such as powersOfTau28_hez_final_16.ptau.", metavar="FILE"),
]
R1cs = Annotated[
    Path | None,
    typer.Option("--r1cs", help="The constraints, compiled by yourself.", show_default="what the mesh stores"),
]
Operator = Annotated[
    str | None,
    typer.Option(
        "--operator-key",
        envvar="SHARDY_OPERATOR_KEY",
        help="API key that may operate. Without it, .data/operator_key is read.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
Limit = Annotated[int, typer.Option(help="How many to list.")]
After = Annotated[str | None, typer.Option(help="Those that follow: what `next` said.", metavar="CIRCUIT")]


@ceremony.callback()
@command
def _ceremony(
    ctx: typer.Context,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    if alone(ctx):
        _list(limit, after, as_json, url, key)


@ceremony.command("list")
@command
def ceremony_list(
    limit: Limit = 100, after: After = None, as_json: AsJson = False, url: Url = URL, key: Key = None
) -> None:
    """List ceremonies: the newest run of each circuit.

    JSON: ceremonies [circuit, run, state, contributions, zkey, powers, started_ms, finished_ms], next.
    """
    _list(limit, after, as_json, url, key)


def _list(limit: int, after: str | None, as_json: bool, url: str, key: str | None) -> None:
    bounded("--limit", limit, 1_000)
    answer = with_mesh(url, key, lambda mesh: listed(mesh.http, limit, after))
    if as_json:
        print_json(answer)
        return
    rows = (
        (c.get("circuit"), c.get("run"), c.get("state"), c.get("contributions"), c.get("powers") or "unpublished")
        for c in entries(answer, "ceremonies")
    )
    table("Ceremonies", ("circuit", "run", "state", "contributions", "powers"), rows, "There are no ceremonies.")
    if answer.get("next"):
        line(f"more: shardy ceremony list --after {answer['next']}")


@ceremony.command("show")
@command
def ceremony_show(
    circuit: Circuit,
    run: Annotated[int, typer.Option("--run", help="A former run.", show_default="the newest")] = 0,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Show a ceremony's transcript: contributors, the hash of each contribution, and what others found.

    Whoever contributed compares the hash with the one that was printed then.

    JSON: circuit, run, state, r1cs, ptau, powers, start, zkey, started_by, started_ms, contributions [number, name,
    hash, base, zkey, by, at_ms], beacon, checks [by, zkey, good, fault, why, at_ms], vk_hash, finished_by, finished_ms.
    """
    bounded("--run", run or 1, 1_000_000)
    _tell(with_mesh(url, key, lambda mesh: told_of(mesh.http, circuit, run)), as_json)


def _tell(told: Told, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    facts(
        ("circuit", told["circuit"]),
        ("run", told["run"]),
        ("state", told["state"]),
        ("started", f"{ago(told['started_ms'])} by {told['started_by']}"),
        ("r1cs", told["r1cs"]),
        ("powers", told["powers"] or f"not published: {told['ptau']}"),
        ("start", told["start"]),
    )
    for one in told["contributions"]:
        facts((f"{one['number']}", f"{one['name']}, {ago(one['at_ms'])} by {one['by']}"), ("hash", one["hash"]))
    if beacon := told["beacon"]:
        facts(("beacon", f"{beacon['value']}, hashed 2^{beacon['iterations']} times"), ("hash", beacon["hash"]))
    facts(("key", told["zkey"]))
    for check in told["checks"]:
        found = "found all well" if check["good"] else f"says that step {check['fault']} is wrong: {check['why']}"
        of = "" if check["zkey"] == told["zkey"] else " (of an earlier key)"
        facts(("check", f"{check['by']} {found}{of}"))
    facts(("vk hash", told["vk_hash"]), ("finished", ago(told["finished_ms"])))


@ceremony.command("start")
@command
def ceremony_start(
    circuit: Circuit,
    ptau: Ptau,
    r1cs: Annotated[
        Path | None,
        typer.Option("--r1cs", help="Its constraints.", show_default="circuits/build/CIRCUIT/CIRCUIT.r1cs"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Put a new run in the place of what is there.")] = False,
    unpublished: Annotated[
        bool, typer.Option("--unpublished", help="Take powers of tau that are none of the published ones, for trials.")
    ] = False,
    circuits: Circuits = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
    operator: Operator = None,
) -> None:
    """Start a circuit's ceremony: make the key that nobody has contributed to, and store it.

    The powers of tau must be published ones (2^N for a circuit of fewer than 2^N constraints): their digest is compared
    with the list in circuits/powers.json. Then ask people to contribute.

    JSON: as `shardy ceremony show`.
    """
    script = Script(circuits_folder(circuits))
    constraints = r1cs or script.folder / "build" / circuit / f"{circuit}.r1cs"
    _readable(ptau, constraints)

    async def main(mesh: AsyncMesh, operating: AsyncMesh, work: Path) -> Told:
        steps = Steps(mesh, script, circuit, work, _say)
        return await steps.start(operating, constraints, ptau, again, unpublished)

    told = _both(url, key, operator, main)
    _tell(told, as_json)
    if not as_json:
        line(f"now ask people for it: shardy ceremony contribute {circuit} --name NAME")


@ceremony.command("contribute")
@command
def ceremony_contribute(
    circuit: Circuit,
    name: Annotated[str, typer.Option("--name", help="Your name in the transcript; everybody can read it.")],
    circuits: Circuits = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Contribute to a ceremony: mix randomness of this machine into the newest key, and forget it.

    Publish the hash that it prints where people know you: by it you, and they, find your contribution in the
    transcript. If somebody else was faster, nothing was recorded: run it again, it begins on their key.

    JSON: circuit, run, number, name, hash, base, zkey.
    """
    if not name.strip():
        raise InvalidInput("--name is empty; say who contributes")
    script = Script(circuits_folder(circuits))

    with _folder() as work:
        done = with_mesh(url, key, lambda mesh: Steps(mesh, script, circuit, work, _say).contribute(name.strip()))
    if as_json:
        print_json(done)
    else:
        line(f"contribution {done['number']} to run {done['run']} of {circuit} is recorded; publish its hash:")
        line(done["hash"])


@ceremony.command("beacon")
@command
def ceremony_beacon(
    circuit: Circuit,
    value: Annotated[
        str, typer.Argument(help="32 bytes or more in hex that nobody could know before.", metavar="VALUE")
    ],
    iterations: Annotated[
        int, typer.Option("--iterations", help="It is hashed 2^N times, 10 to 42.", metavar="N")
    ] = 10,
    circuits: Circuits = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
    operator: Operator = None,
) -> None:
    """Seal a ceremony with public randomness, after three contributions or more. Nobody can contribute any more.

    Announce beforehand which value it will be: a block of a chain, or a round of a randomness beacon, of a later time.

    JSON: as `shardy ceremony show`.
    """
    value = value.lower()
    if re.fullmatch(r"([0-9a-f]{2}){32,255}", value) is None:
        raise InvalidInput("VALUE is 32 to 255 bytes in hex, two digits each")
    if not 10 <= iterations <= 42:
        raise InvalidInput(f"--iterations is {iterations}; 10 to 42 are possible")
    script = Script(circuits_folder(circuits))

    async def main(mesh: AsyncMesh, operating: AsyncMesh, work: Path) -> Told:
        return await Steps(mesh, script, circuit, work, _say).seal(operating, value, iterations)

    _tell(_both(url, key, operator, main), as_json)
    if not as_json:
        line(f"now anybody can check it: shardy ceremony verify {circuit} --ptau FILE")


@ceremony.command("verify")
@command
def ceremony_verify(
    circuit: Circuit,
    ptau: Ptau,
    r1cs: R1cs = None,
    quiet: Annotated[bool, typer.Option("--no-report", help="Do not tell the mesh what was found.")] = False,
    circuits: Circuits = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Verify a ceremony, at any time: its newest key, and every contribution against the transcript in the log.

    Where something is wrong, keys before it are looked at until the contribution is found with which it went wrong.
    What was found is told to the mesh, under your API key. Exit code 1 when it is not good.

    JSON: circuit, run, zkey, good, fault, what, why, reported.
    """
    script = Script(circuits_folder(circuits))
    _readable(ptau, r1cs)

    async def main(mesh: AsyncMesh, work: Path) -> dict[str, Any]:
        told, found = await Steps(mesh, script, circuit, work, _say).verify(ptau, r1cs)
        if not quiet:
            await report(mesh, told, found)
        shown = {"fault": None if found.good else found.fault, "what": found.what or None, "why": found.why or None}
        return {"circuit": circuit, "run": told["run"], "zkey": told["zkey"], "good": found.good, **shown}

    with _folder() as work:
        done = with_mesh(url, key, lambda mesh: main(mesh, work)) | {"reported": not quiet}
    if as_json:
        print_json(done)
    elif done["good"]:
        line(f"run {done['run']} of {circuit} is good: its newest key follows from every step of the transcript")
    if not done["good"]:
        raise _not_good(done, done["what"], done["why"])


@ceremony.command("finish")
@command
def ceremony_finish(
    circuit: Circuit,
    ptau: Ptau,
    vk: Annotated[Path, typer.Option("--vk", help="Write the verification key here.", metavar="FILE")],
    zkey: Annotated[
        Path | None, typer.Option("--zkey", help="Write the key that provers need here.", metavar="FILE")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Register the verification key as this version.", metavar="VERSION")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", help="The product that it proves.", metavar="MxKxN", show_default="of CIRCUIT's name"),
    ] = None,
    r1cs: R1cs = None,
    circuits: Circuits = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
    operator: Operator = None,
) -> None:
    """Finish a sealed ceremony: verify it yourself, write out the verification key, and say that this key is the one.

    With --version the key is registered too; `shardy verifiers rotate` then makes it the active one.

    JSON: circuit, run, zkey, vk_hash, version.
    """
    script = Script(circuits_folder(circuits))
    sides = sides_of(shape or _shape_of(circuit)) if version else []
    _readable(ptau, r1cs)
    for file in (vk, *([zkey] if zkey else [])):
        writable(file)

    async def main(mesh: AsyncMesh, operating: AsyncMesh, work: Path) -> dict[str, Any]:
        steps = Steps(mesh, script, circuit, work, _say)
        told, found = await steps.verify(ptau, r1cs)
        if told["state"] not in ("sealed", "finished"):
            raise ShardyError(f"run {told['run']} of {circuit} is {told['state']}: its beacon comes first")
        await report(operating, told, found)
        if not found.good:
            raise _not_good(told, found.what, found.why)
        done = await steps.finish(operating, told, vk, zkey)
        known = done.pop("vk")
        if version:
            await operating.register_verifier(circuit, version, sides, known)
        return {"circuit": circuit, **done, "version": version}

    done = _both(url, key, operator, main)
    if as_json:
        print_json(done)
        return
    line(f"run {done['run']} of {circuit} is finished; {vk} is its verification key ({done['vk_hash']})")
    line(
        f"make it the active one: shardy verifiers rotate {circuit} {version}"
        if version
        else f"register it: shardy verifiers register {vk} --circuit {circuit} --version NAME --shape MxKxN"
    )


# -- what they share --------------------------------------------------------------------------------------------------


def _not_good(told: Told, what: str, why: str) -> ShardyError:
    return ShardyError(f"run {told['run']} of {told['circuit']} is not good: {what}: {why}")


def _both(
    url: str,
    key: str | None,
    operator: str | None,
    do: Callable[[AsyncMesh, AsyncMesh, Path], Coroutine[Any, Any, dict[str, Any]]],
) -> dict[str, Any]:
    """Run `do` with an ordinary key for bytes, the operator's for decisions, and a folder for keys."""

    async def main(mesh: AsyncMesh, work: Path) -> dict[str, Any]:
        async with AsyncMesh(url, operator or operator_key()) as operating:
            return await do(mesh, operating, work)

    with _folder() as work:
        return with_mesh(url, key, lambda mesh: main(mesh, work))


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for keys that is gone afterwards; TMPDIR says where. None of them is secret."""
    with tempfile.TemporaryDirectory(prefix="shardy-ceremony-") as name:
        yield Path(name)


def _say(text: str) -> None:
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def _readable(*files: Path | None) -> None:
    for file in files:
        if file is not None and not file.is_file():
            raise InvalidInput(f"there is no file {file}")


def _shape_of(circuit: str) -> str:
    found = re.fullmatch(r"v\d+-(\d+x\d+x\d+)", circuit)
    if found is None:
        raise InvalidInput(f"{circuit} does not say which product it proves: add --shape MxKxN")
    return found[1]
