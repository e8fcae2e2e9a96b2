"""`shardy-worker` as whoever runs it meets it: options, key file, exit codes, one line for what is wrong."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from node_harness import BUNDLE, Process, Start
from starlette.websockets import WebSocket

from fake_gateway import ScriptGateway  # isort: skip  # in the native worker's tests, on the path by the harness
from shardy_client.identity import Identity
from shardy_common.ids import worker_id
from shardy_common.wire import frame

NOBODY = "http://127.0.0.1:9"


async def run(runtime: str, *args: str, **env: str) -> Process:
    """To its end."""
    process = await Process.start(runtime, args, env)
    await process.ended()
    return process


async def joins(gateway: ScriptGateway, worker: Process) -> Any:
    await gateway.until(lambda: any(s.probed for s in gateway.sessions), 60)
    worker.signal()
    assert await worker.ended() == 0
    return gateway.sessions[-1]


async def test_says_how_it_is_used(runtime: str) -> None:
    helped = await run(runtime, "--help")
    assert helped.process.returncode == 0
    text = "\n".join(helped.lines)
    for word in ("--url", "--key", "--ephemeral", "--memory-mib", "--json", "SHARDY_URL", "one core", "Exit codes"):
        assert word in text, word
    version = await run(runtime, "--version")
    assert version.process.returncode == 0 and version.lines[0].startswith("shardy-worker ")


async def test_the_bundle_runs_by_itself(runtime: str) -> None:
    process = await Process.start(runtime, ("--version",), {}, BUNDLE)
    assert await process.ended() == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--nonsense",), "--nonsense"),
        (("--url", "ftp://mesh"), "no address of a mesh"),
        (("--memory-mib", "1"), "64 to 4096"),
        (("--backend", "cuda"), "auto, wasm and webgpu"),
        (("--backend", "webgpu"), "has no WebGPU"),
        (("--key", "a", "--ephemeral"), "exclude each other"),
        (("--key", "/dev/null"), "no file"),
    ],
)
async def test_wrong_usage_is_one_line_and_code_2(runtime: str, args: tuple[str, ...], words: str) -> None:
    worker = await run(runtime, *args)
    assert worker.process.returncode == 2
    (line,) = worker.lines
    assert line.startswith("error: ") and words in line


async def test_a_mesh_that_is_not_there_is_code_3(start: Start) -> None:
    worker = await start(NOBODY, "--ephemeral", "--quiet")
    assert await worker.ended() == 3
    assert worker.lines[-1].startswith(f"error: cannot reach the mesh at {NOBODY}")


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        (4403, 4, "banned"),
        (4401, 4, "refused"),
        (4409, 4, "joined elsewhere"),
        (4406, 1, "version"),
        (4400, 1, "malformed"),
        (4413, 1, "too large"),
    ],
)
async def test_close_codes_that_end_it(
    gateway: ScriptGateway, start: Start, code: int, exit_code: int, words: str
) -> None:
    worker = await start(gateway.url, "--ephemeral", "--json")
    await gateway.until(lambda: any(s.probed for s in gateway.sessions), 60)
    await gateway.sessions[0].close(code, "because")
    assert await worker.ended() == exit_code
    assert worker.lines[-1].startswith("error: ") and words in worker.lines[-1]
    assert any("because" in line for line in worker.lines)
    assert worker.statuses[-1]["state"] == "failed" and len(gateway.sessions) == 1


async def test_an_older_version_is_not_spoken(gateway: ScriptGateway, start: Start) -> None:
    async def old(socket: WebSocket) -> None:
        challenge = {"t": "challenge", "version": 1, "nonce": bytes(32), "session": "s", "mesh": "test"}
        await socket.send_bytes(frame.encode(challenge))
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass

    gateway.before_challenge = old
    worker = await start(gateway.url, "--ephemeral")
    assert await worker.ended() == 1
    assert "update it" in worker.lines[-1] and "version 1 was not offered" in worker.lines[-1]


async def test_its_key_is_made_once_and_is_the_native_workers_form(
    gateway: ScriptGateway, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "keys/worker.key"
    first = await joins(gateway, worker := await start(gateway.url, "--key", str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load_or_create(path).public == first.key
    assert worker.lines[0] == f"worker {worker_id(first.key)}"
    assert worker.lines[-1].startswith("left the mesh; 0 tasks done")
    gateway.sessions.clear()
    again = await joins(gateway, await start(gateway.url, "--key", str(path)))
    assert again.key == first.key


async def test_uses_a_key_of_the_native_worker(gateway: ScriptGateway, start: Start, tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path / "native.key")
    session = await joins(gateway, await start(gateway.url, "--key", str(tmp_path / "native.key")))
    assert session.key == identity.public


async def test_without_a_name_the_key_lies_with_the_users_data(
    gateway: ScriptGateway, start: Start, tmp_path: Path
) -> None:
    session = await joins(gateway, await start(gateway.url))
    assert Identity.load_or_create(tmp_path / "data/shardy/js-worker.key").public == session.key


async def test_a_key_that_others_may_read_is_refused(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    Identity.load_or_create(path)
    path.chmod(0o640)
    worker = await start(NOBODY, "--key", str(path))
    assert await worker.ended() == 2
    assert worker.lines == [f"error: the key file {path} is open to others (mode 640): run chmod 600 {path}"]


async def test_ephemeral_and_quiet_leave_nothing_behind(gateway: ScriptGateway, start: Start, tmp_path: Path) -> None:
    worker = await start(gateway.url, "--ephemeral", "--quiet")
    await joins(gateway, worker)
    assert worker.lines == [] and worker.statuses == []
    assert list(tmp_path.rglob("*.key")) == []
