"""What an operator does with verification keys of proofs: list, show, register, rotate, revoke."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client.cli_care import seconds
from shardy_client.cli_common import (
    URL,
    AsJson,
    OperatorKey,
    Url,
    ago,
    bounded,
    command,
    entries,
    facts,
    line,
    operating,
    print_json,
    table,
)
from shardy_client.cli_operate import alone
from shardy_client.errors import InvalidInput
from shardy_client.log_words import moment

FILE_BYTES_MAX = 64 * 1024
PROVER_BYTES_MAX = 1 << 30
verifiers = typer.Typer(
    invoke_without_command=True,
    help="Register, rotate and revoke verification keys of proofs. Alone, lists them. Needs the operator's key.",
)

Version = Annotated[
    str,
    typer.Argument(
        help="The version; `shardy verifiers` lists them.",
        metavar="VERSION",
        autocompletion=complete.verifier_versions,
    ),
]
Limit = Annotated[int, typer.Option(help="How many to list.")]
After = Annotated[str | None, typer.Option(help="Those that follow: what `next` said.", metavar="VERSION")]
OfCircuit = Annotated[
    str | None, typer.Option("--circuit", help="Only versions of this circuit.", autocompletion=complete.circuits)
]


@verifiers.callback()
@command
def _verifiers(
    ctx: typer.Context,
    circuit: OfCircuit = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    if alone(ctx):
        _list(circuit, limit, after, as_json, url, key)


@verifiers.command("list")
@command
def verifiers_list(
    circuit: OfCircuit = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """List verification keys by circuit, the oldest first.

    JSON: verifiers [version, circuit, shape, status, vk_hash, dev, registered_by, registered_ms, active_ms,
    grace_until_ms, revoked_ms, successor, why, files], next.
    """
    _list(circuit, limit, after, as_json, url, key)


def _list(circuit: str | None, limit: int, after: str | None, as_json: bool, url: str, key: str | None) -> None:
    bounded("--limit", limit, 1_000)
    answer = operating(url, key, lambda mesh: mesh.verifiers(limit, after, circuit))
    if as_json:
        print_json(answer)
        return
    rows = (
        (v.get("circuit"), v.get("version"), _status(v), _until(v), _shape(v), str(v.get("vk_hash"))[:12])
        for v in entries(answer, "verifiers")
    )
    columns = ("circuit", "version", "status", "until (UTC)", "shape", "hash")
    table("Verification keys", columns, rows, "No verification keys are registered.")
    if answer.get("next"):
        line(f"more: shardy verifiers list --after {answer['next']}")


def _status(version: dict[str, Any]) -> str:
    return f"{version.get('status')}{' (dev)' if version.get('dev') else ''}"


def _until(version: dict[str, Any]) -> str:
    return moment(version.get("grace_until_ms"))[:16] if version.get("status") == "grace" else ""


def _shape(version: dict[str, Any]) -> str:
    return "x".join(map(str, version.get("shape") or ()))


def _tell(version: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(version)
        return
    facts(
        ("version", version.get("version")),
        ("circuit", version.get("circuit")),
        ("shape", _shape(version)),
        ("status", _status(version)),
        ("until", _until(version)),
        ("hash", version.get("vk_hash")),
        ("registered", f"{ago(version.get('registered_ms'))} by {version.get('registered_by')}"),
        ("active", ago(version.get("active_ms"))),
        ("revoked", ago(version.get("revoked_ms"))),
        ("successor", version.get("successor")),
        ("why", version.get("why")),
    )


@verifiers.command("show")
@command
def verifiers_show(version: Version, as_json: AsJson = False, url: Url = URL, key: OperatorKey = None) -> None:
    """Show a version; with --json also its key, as canonical text whose BLAKE3 is the hash.

    JSON: version, circuit, shape, status, vk_hash, dev, registered_by, registered_ms, active_ms, grace_until_ms,
    revoked_ms, successor, why, files, vk.
    """
    _tell(operating(url, key, lambda mesh: mesh.verifier(version)), as_json)


@verifiers.command("register")
@command
def verifiers_register(
    file: Annotated[
        Path,
        typer.Argument(
            help="The verification key, as snarkjs writes it; or a circuit's whole folder, as `make circuits` makes.",
            metavar="VK",
        ),
    ],
    version: Annotated[str, typer.Option("--version", help="A name for it that no key had before.")],
    circuit: Annotated[
        str,
        typer.Option(
            "--circuit",
            help="The circuit that it is of.",
            autocompletion=complete.circuits,
            show_default="that of the folder",
        ),
    ] = "",
    shape: Annotated[
        str,
        typer.Option("--shape", help="The product that it proves.", metavar="MxKxN", show_default="that of the folder"),
    ] = "",
    dev: Annotated[
        bool, typer.Option("--dev", help="Its randomness is known, though the file does not say so.")
    ] = False,
    zkey: Annotated[
        Path | None, typer.Option("--zkey", help="The proving key, for workers.", metavar="ZKEY", dir_okay=False)
    ] = None,
    r1cs: Annotated[
        Path | None, typer.Option("--r1cs", help="The compiled circuit, for workers.", metavar="R1CS", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Register a verification key. It is active once the circuit is rotated to it.

    With --zkey and --r1cs workers can prove under it, for jobs with policy proof. Both files are packed and stored. A
    folder has all of it, and names circuit and shape.

    Example: shardy verifiers register circuits/build/v2-32x32x32 --version dev-1

    JSON: version, circuit, shape, status, vk_hash, dev, registered_by, registered_ms, active_ms, grace_until_ms,
    revoked_ms, successor, why, files.
    """
    if file.is_dir():
        if circuit or shape or zkey is not None or r1cs is not None:
            raise InvalidInput(f"{file} is a folder: it says --circuit, --shape, --zkey and --r1cs itself")
        file, circuit, shape, zkey, r1cs = _folder(file)
    elif not (circuit and shape):
        raise InvalidInput("--circuit and --shape are missing; only a circuit's folder says them itself")
    if (zkey is None) != (r1cs is None):
        raise InvalidInput("give --zkey and --r1cs together: workers need both to prove")
    sides, vk = sides_of(shape), _read(file)
    files = {"zkey": _whole(zkey), "r1cs": _whole(r1cs)} if zkey is not None and r1cs is not None else None
    answer = operating(url, key, lambda mesh: mesh.register_verifier(circuit, version, sides, vk, dev, files))
    _tell(answer, as_json)


@verifiers.command("rotate")
@command
def verifiers_rotate(
    circuit: Annotated[str, typer.Argument(help="The circuit.", metavar="CIRCUIT", autocompletion=complete.circuits)],
    version: Version,
    grace: Annotated[
        str,
        typer.Option("--grace", help="How long what was leased before still counts: 90s, 10m, 2h, 1d.", metavar="TIME"),
    ] = "10m",
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Make a version the active one of its circuit, at one moment for the whole mesh.

    JSON: circuit, version, former, grace_until_ms.
    """
    grace_s = int(seconds("--grace", grace))
    answer = operating(url, key, lambda mesh: mesh.rotate_verifier(circuit, version, grace_s))
    if as_json:
        print_json(answer)
        return
    until = f"; {answer['former']} counts for earlier leases for {grace}" if answer.get("former") else ""
    line(f"{circuit}: version {version} is active{until}")


@verifiers.command("revoke")
@command
def verifiers_revoke(
    version: Version,
    why: Annotated[str, typer.Option("--why", help="Why; it stays in the log.")],
    successor: Annotated[
        str | None,
        typer.Option(
            "--successor",
            help="The version that is active in its place at once.",
            metavar="VERSION",
            autocompletion=complete.verifier_versions,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Revoke a version for good: nothing is accepted under it from now on.

    JSON: version, circuit, shape, status, vk_hash, dev, registered_by, registered_ms, active_ms, grace_until_ms,
    revoked_ms, successor, why, files.
    """
    if not why.strip():
        raise InvalidInput("--why is empty; say why the version is revoked")
    answer = operating(url, key, lambda mesh: mesh.revoke_verifier(version, why, successor))
    if as_json:
        print_json(answer)
        return
    line(f"{version} is revoked" + (f"; {successor} is active in its place" if successor else ""))


def sides_of(text: str) -> list[int]:
    """8x384x8"""
    if re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9}){2}", text.strip()) is None:
        raise InvalidInput(f"--shape is {text!r}; write it as MxKxN, such as 8x384x8")
    return [int(side) for side in text.strip().split("x")]


def _folder(folder: Path) -> tuple[Path, str, str, Path, Path]:
    """Key, circuit, shape, zkey and r1cs of a circuit's folder."""
    name = folder.resolve().name
    found = folder / "verification_key.json", folder / f"{name}.zkey", folder / f"{name}.r1cs"
    shape = re.fullmatch(r"v\d+-(\d+x\d+x\d+)", name)
    if shape is None:
        raise InvalidInput(f"{folder} is no circuit's folder: one is called by version and shape, such as v2-8x384x8")
    missing = [file.name for file in found if not file.is_file()]
    if missing:
        raise InvalidInput(f"{folder} lacks {', '.join(missing)}; make circuits writes all of them")
    return found[0], name, shape[1], found[1], found[2]


def _whole(file: Path) -> bytes:
    try:
        if file.stat().st_size > PROVER_BYTES_MAX:
            raise InvalidInput(f"{file} is larger than {PROVER_BYTES_MAX >> 20} MiB: no worker could prove with it")
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise InvalidInput(f"{file} is larger than any verification key ({FILE_BYTES_MAX} bytes)")
    try:
        vk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is no JSON: {error}") from None
    if not isinstance(vk, dict):
        raise InvalidInput(f"{file} is no verification key: it holds no JSON object")
    return vk
