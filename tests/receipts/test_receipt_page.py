"""docs/receipts.md: what it shows runs, and what it lists is what a receipt has."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from made_receipts import MESH, made

from shardy_common.receipts import canonical
from shardy_common.receipts.statements import JobStatement, TaskStatement

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "receipts.md").read_text(encoding="utf-8")


def block(language: str, word: str) -> str:
    """The one fenced block of this language that holds the word."""
    (found,) = [text for text in re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE) if word in text]
    return found


@pytest.mark.skipif(not all(map(shutil.which, ("sh", "jq", "xxd", "openssl"))), reason="a command is not here")
@pytest.mark.parametrize("change", [False, True])
def test_the_commands_verify_the_meshs_signature(tmp_path: Path, change: bool) -> None:
    receipt = copy.deepcopy(made().receipt)
    if change:
        receipt["statement"]["ops"] += "0"
    (tmp_path / "receipt.json").write_bytes(canonical(receipt))
    done = subprocess.run(["sh", "-e", "-c", block("sh", "openssl")], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode != 0) == change, done.stderr
    assert (b"Verified Successfully" in done.stdout) != change


def test_the_function_verifies_the_workers_signatures() -> None:
    names: dict[str, Any] = {"blake3": blake3, "Ed25519PublicKey": Ed25519PublicKey}
    exec(block("python", "def verify_workers"), names)
    for task in made().tasks:
        names["verify_workers"](task["statement"])
        wrong = copy.deepcopy(task["statement"])
        wrong["result"]["bytes"] += 1
        with pytest.raises(InvalidSignature):
            names["verify_workers"](wrong)


def test_the_example_checks_receipt_and_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = made()
    (tmp_path / "receipt.json").write_bytes(canonical(job.receipt))
    example = block("python", "check_arrays").replace("receipt.json", str(tmp_path / "receipt.json"))
    exec(example.replace("the mesh's public key, 64 hex digits", MESH.key), dict(job.arrays))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("True [] True") and second == "True [] []"


def test_every_field_is_explained() -> None:
    for statement in (TaskStatement, JobStatement):
        for name in statement.__struct_fields__:
            assert f"`{name}`" in PAGE, name
