"""`shardy ceremony` where something is missing or wrong: one line that says what to change, before anything is sent.
What it does over a mesh: tests/circuits/test_ceremony_on_mesh.py."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from typer.testing import CliRunner, Result

from shardy_client.ceremony import Examiner, Script, circuits_folder, digest_of, fetch
from shardy_client.cli import app
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.transport import Http

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = ["--url", "http://127.0.0.1:9", "--key", "k"]
VALUE = "7b" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with what looks like circuits/ and its packages."""
    monkeypatch.chdir(tmp_path)
    for name in ("SHARDY_CIRCUITS", "SHARDY_KEY", "SHARDY_OPERATOR_KEY", "SHARDY_URL"):
        monkeypatch.delenv(name, raising=False)
    for file in ("ceremony.mjs", "constraints.json"):
        (tmp_path / "circuits").mkdir(exist_ok=True)
        shutil.copy(ROOT / "circuits" / file, tmp_path / "circuits" / file)
    (tmp_path / "circuits/node_modules/snarkjs").mkdir(parents=True)
    (tmp_path / "some.ptau").write_bytes(b"ptau")
    (tmp_path / "some.r1cs").write_bytes(b"r1cs")
    return tmp_path


def shardy(*words: str) -> Result:
    return CliRunner().invoke(app, ["ceremony", *words], prog_name="shardy")


def refused(code: int, words: str, *command: str) -> None:
    result = shardy(*command)
    said = " ".join(result.stderr.split())
    assert result.exit_code == code and words in said and said.count("error:") == 1, (result.exit_code, said)
    assert result.stdout == ""


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
@pytest.mark.parametrize(
    ("code", "words", "command"),
    [
        (2, "there is no file none.ptau", ["start", "c", "--ptau", "none.ptau"]),
        (2, "circuits/build/c/c.r1cs", ["start", "c", "--ptau", "some.ptau"]),
        (2, "is not the v2-8x8x8 that", ["start", "v2-8x8x8", "--ptau", "some.ptau", "--r1cs", "some.r1cs", *NOWHERE]),
        (2, "--name is empty", ["contribute", "c", "--name", " "]),
        (2, "VALUE is 32 to 255 bytes in hex", ["beacon", "c", VALUE[2:]]),
        (2, "VALUE is 32 to 255 bytes in hex", ["beacon", "c", VALUE + "0"]),
        (2, "--iterations is 43; 10 to 42", ["beacon", "c", VALUE, "--iterations", "43"]),
        (2, "there is no file none.r1cs", ["verify", "c", "--ptau", "some.ptau", "--r1cs", "none.r1cs"]),
        (2, "add --shape MxKxN", ["finish", "c", "--ptau", "some.ptau", "--vk", "vk.json", "--version", "v"]),
        (2, "its folder does not exist", ["finish", "c", "--ptau", "some.ptau", "--vk", "none/vk.json"]),
        (2, "--limit is 0", ["list", "--limit", "0"]),
        (2, "--run is -1", ["show", "c", "--run", "-1"]),
        (2, "no circuit", ["show", "a/b", *NOWHERE]),
        (3, "cannot reach a mesh", ["show", "c", *NOWHERE]),
        (3, "cannot reach a mesh", ["contribute", "c", "--name", "Ada", *NOWHERE]),
    ],
)
def test_what_is_wrong_is_said(folder: Path, code: int, words: str, command: list[str]) -> None:
    refused(code, words, *command)


def test_what_is_missing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contribute = ("contribute", "c", "--name", "Ada")
    shutil.rmtree(folder / "circuits/node_modules")
    if shutil.which("node"):
        refused(2, f"run `npm ci` in {folder}/circuits", *contribute)
        assert circuits_folder(_ready(folder / "elsewhere")) == folder / "elsewhere"
        monkeypatch.setenv("SHARDY_CIRCUITS", str(folder / "elsewhere"))
        assert circuits_folder() == folder / "elsewhere"
    refused(2, "get the folder circuits/ of Shardy's sources", *contribute, "--circuits", str(folder))
    monkeypatch.setenv("PATH", str(folder))
    refused(2, "Node.js is needed for ceremonies", *contribute)


def _ready(folder: Path) -> Path:
    (folder / "node_modules/snarkjs").mkdir(parents=True)
    (folder / "ceremony.mjs").touch()
    return folder


def test_files_and_what_is_recorded_of_circuits(folder: Path) -> None:
    assert digest_of(folder / "some.r1cs") == blake3(b"r1cs").hexdigest()
    (folder / "empty").touch()
    for name, words in (("empty", "is empty"), ("none", "cannot read"), (".", "cannot read")):
        with pytest.raises(InvalidInput, match=words):
            digest_of(folder / name)
    script = Script(folder / "circuits")
    assert len(script.recorded("v2-8x8x8")) == 64 and script.recorded("none") == ""
    assert Script(folder).recorded("v2-8x8x8") == ""


@pytest.fixture
def serving() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server of blobs, whatever they are under."""
    blobs: dict[str, bytes] = {}

    class Blobs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = blobs[self.path.rpartition("/")[2]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *about: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Blobs)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", blobs
    server.shutdown()
    thread.join()
    server.server_close()


def test_bytes_that_are_not_those_of_the_digest(serving: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    url, blobs = serving
    right, wrong = blake3(b"right").hexdigest(), blake3(b"wrong").hexdigest()
    blobs |= {right: b"right", wrong: b"other"}

    async def main() -> None:
        http = Http(url, "k")
        assert (await fetch(http, right, tmp_path / "right")).read_bytes() == b"right"
        with pytest.raises(ShardyError, match="sent other bytes than those of"):
            await fetch(http, wrong, tmp_path / "wrong")
        await http.aclose()

    asyncio.run(main())
    assert [path.name for path in tmp_path.iterdir()] == ["right"], "nothing wrong is left behind"


def told(**changed: Any) -> dict[str, Any]:
    steps = [
        {"number": n, "name": name, "hash": f"{n:0128x}", "base": f"{n - 1:064x}", "zkey": f"{n:064x}"}
        for n, name in enumerate(("Ada", "Bo"), 1)
    ]
    beacon = {"value": VALUE, "iterations": 10, "hash": f"{3:0128x}", "base": f"{2:064x}", "zkey": f"{3:064x}"}
    return {"circuit": "c", "start": f"{0:064x}", "r1cs": "1" * 64, "contributions": steps, "beacon": beacon} | changed


SAID = [
    {"kind": "person", "name": "Ada", "transcript": f"{1:0128x}"},
    {"kind": "person", "name": "Bo", "transcript": f"{2:0128x}"},
    {"kind": "beacon", "name": "beacon", "transcript": f"{3:0128x}", "beacon": VALUE, "iterations": 10},
]


def examiner(transcript: dict[str, Any], folder: Path) -> Examiner:
    http, script = Http("http://127.0.0.1:9", "k"), Script(folder / "circuits")
    return Examiner(http, script, transcript, folder, folder, folder, lambda _: None)


def test_what_a_key_lists_is_held_to_the_log(folder: Path) -> None:
    known = examiner(told(), folder)
    assert known.unlike(3, SAID) == known.unlike(2, SAID[:2]) == known.unlike(0, []) == ""
    assert "lists 2 contributions where the log has 3" in known.unlike(3, SAID[:2])
    for place, field, value in (
        (0, "name", "Eve"),
        (0, "transcript", "0" * 128),
        (1, "kind", "beacon"),
        (2, "beacon", "00" * 32),
        (2, "iterations", 11),
        (2, "kind", "person"),
        (2, "transcript", "0" * 128),
    ):
        said = [one | ({field: value} if n == place else {}) for n, one in enumerate(SAID)]
        what = ("contribution 1 of Ada", "contribution 2 of Bo", "the beacon")[place]
        assert known.unlike(3, said) == f"what the key says of {what} is not what the log says", field


def test_a_broken_chain_and_other_constraints_are_found_without_a_key(folder: Path) -> None:
    """A mesh that lies about the order is found out, too."""
    steps = told()["contributions"]
    broken = told(contributions=[steps[0], steps[1] | {"base": f"{7:064x}"}])
    found = asyncio.run(examiner(broken, folder).examine())
    assert (found.good, found.fault, found.what) == (False, 2, "contribution 2 of Bo")
    found = asyncio.run(examiner(told(circuit="v2-8x8x8"), folder).examine())
    assert (found.good, found.fault) == (False, 0) and "circuits/constraints.json" in found.why
