"""`shardy verify`: a receipt checked on this machine, without the mesh."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from shardy_client import complete
from shardy_client.cli_common import AsJson, command, facts, line, number, one_of, print_json
from shardy_client.errors import InvalidInput
from shardy_client.files import load
from shardy_client.transport import read_key

MESH_KEY_FILE = Path(".data") / "mesh_key.pub"
RECEIPT_BYTES_MAX = 1 << 30
PARTS = ("x", "q", "scale", "a_scale", "b_scale")
GET_KEY = "get it from whoever runs the mesh, or from its address: GET /v1/mesh, mesh_key"


def trusted_keys(named: list[str] | None) -> set[str] | None:
    """Keys that the caller vouches for: --mesh-key, SHARDY_MESH_KEY, or the file of a mesh of this folder."""
    texts = list(named or ()) or os.environ.get("SHARDY_MESH_KEY", "").replace(",", " ").split()
    texts = texts or read_key(MESH_KEY_FILE).split()
    found = {text.strip().lower() for text in texts}
    for text in found:
        if len(text) != 64 or set(text) - set("0123456789abcdef"):
            raise InvalidInput(f"{text!r} is no mesh key; one has 64 hex digits")
    return found or None


def _arrays(a: str | None, b: str | None, b_layout: str, c: str | None, more: list[str] | None) -> dict[str, Any]:
    one_of("--b-layout", b_layout, ("kn", "nk"))
    found: dict[str, NDArray[Any]] = {}
    if a is not None:
        found["a"] = load(a)
    if b is not None:
        right = load(b)
        found["b"] = np.ascontiguousarray(right.T) if b_layout == "kn" else right
    if c is not None:
        found["c"] = load(c)
    for text in more or ():
        name, equals, file = text.partition("=")
        if not equals or name not in PARTS:
            raise InvalidInput(f"--part is {text!r}; write NAME=FILE with one of {', '.join(PARTS)}")
        found[name] = load(file)
    return found


@command
def verify(
    receipt: Annotated[Path, typer.Argument(help="A receipt, as `shardy receipt` wrote it.", metavar="RECEIPT")],
    mesh_key: Annotated[
        list[str] | None,
        typer.Option(
            "--mesh-key",
            help="The mesh's public key, which you trust; may be given twice. Else SHARDY_MESH_KEY, or"
            " .data/mesh_key.pub of a mesh of this folder.",
            metavar="HEX",
            show_default=False,
        ),
    ] = None,
    a: Annotated[str | None, typer.Option("--a", help="Compare with the operand A.", metavar="FILE")] = None,
    b: Annotated[str | None, typer.Option("--b", help="Compare with the operand B.", metavar="FILE")] = None,
    c: Annotated[str | None, typer.Option("--c", help="Compare with the product, by tiles.", metavar="FILE")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="Compare with another array: x, q, scale, a_scale or b_scale.",
            metavar="NAME=FILE",
            autocompletion=complete.among(tuple(f"{name}=" for name in PARTS)),
        ),
    ] = None,
    b_layout: Annotated[str, typer.Option(help="As in matmul.", autocompletion=complete.among(("kn", "nk")))] = "kn",
    pure: Annotated[
        bool,
        typer.Option(
            "--pure", help="Check proofs by py_ecc, in Python alone: half a second each, and nothing compiled between."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a receipt without the mesh: its signatures, its logic, and the arrays that you have.

    Verified (exit code 0) needs the mesh's key from somewhere that you trust: a receipt names its key itself, and
    anybody can sign one with a key of his own. A matrix of another product, or one wrong byte in it, is named.

    JSON: verified, problems, vouched, type, mesh, job, key, tasks, ops, workers, methods, signed, unsigned, proofs,
    development, arrays (null, or problems, differing, tiles, operands, proofs).

    Example: shardy verify RECEIPT.json --a A.npy --b B.npy --c C.npy
    """
    from shardy_common import receipts

    try:
        if receipt.stat().st_size > RECEIPT_BYTES_MAX:
            raise InvalidInput(f"{receipt} has more than {RECEIPT_BYTES_MAX:,} bytes; no receipt does")
        data = receipt.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {receipt}: {error.strerror}") from None
    arrays = _arrays(a, b, b_layout, c, part)
    keys = trusted_keys(mesh_key)
    report = receipts.check(data, mesh_keys=keys, verify_proof=_pure() if pure else None)
    compared = None
    if arrays and not report.problems:
        compared = receipts.check_arrays(receipts.load(data), arrays)
    verified = report.ok and report.vouched and (compared is None or compared.ok)
    if as_json:
        print_json({"verified": verified, **_map(report), "arrays": None if compared is None else _map(compared)})
    else:
        _show(report, compared, keys)
    if not verified:
        raise typer.Exit(1)


def _pure() -> Any:
    try:
        import py_ecc  # noqa: F401
    except ImportError:
        raise InvalidInput("--pure needs py_ecc: pip install py_ecc") from None
    from shardy_common.proofs.pure import verify as by_py_ecc

    return by_py_ecc


def _map(report: Any) -> dict[str, Any]:
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def _proofs(report: Any) -> str:
    if not report.proofs:
        return ""
    return f"{report.proofs} hold" + (
        ", under a DEVELOPMENT key: anybody can forge those" if report.development else ""
    )


def _show(report: Any, compared: Any, keys: set[str] | None) -> None:
    methods = ", ".join(f"{count} by {name}" for name, count in sorted(report.methods.items()))
    facts(
        (report.type or "receipt", report.job),
        ("tasks", f"{report.tasks}: {methods}" if report.tasks else ""),
        ("workers", f"{len(report.workers)}" if report.workers else ""),
        ("answers", f"{report.signed} signed by their workers, {report.unsigned} not" if report.workers else ""),
        ("proofs", _proofs(report)),
        ("operations", number(report.ops) if report.ops else ""),
        ("signed by", report.key),
    )
    problems = [*report.problems, *(compared.problems if compared is not None else ())]
    for problem in problems[:20]:
        line(f"   problem  {problem}")
    if len(problems) > 20:
        line(f"            and {len(problems) - 20} more")
    if compared is not None and not compared.problems:
        tiles = f", {compared.tiles} tiles equal" if compared.tiles else ""
        line(f"    arrays  {', '.join(compared.operands) or 'the result'} as in the receipt{tiles}")
    if problems:
        line("NOT VERIFIED: this receipt, or what you compared it with, is not what a mesh vouched for.")
    elif keys is None:
        line(
            f"NOT VERIFIED: it is whole, but whose key {report.key} is, nobody has said. Give the mesh's key"
            f" with --mesh-key HEX ({GET_KEY})."
        )
    else:
        line("VERIFIED: signed by a mesh key that you trust.")
