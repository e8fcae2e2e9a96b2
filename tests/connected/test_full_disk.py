"""A store without room, on a small file system: uploads and results are refused with words or wait; none is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from blake3 import blake3
from meshkit import Workers, api, check_log, client, int8, product, same, until

from shardy_common.stack import Stack

ROOM = 24 << 20
PIECE = 4 << 20


def mounted(folder: Path) -> str:
    """Why no small file system can be mounted there; empty when it is."""
    try:
        options = ("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder whose blobs lie on a file system of ROOM bytes."""
    data = tmp_path_factory.mktemp("small")
    blobs = data / "blobs"
    blobs.mkdir()
    if why := mounted(blobs):
        pytest.skip(f"no small file system can be mounted here: {why}")
    try:
        yield data
    finally:
        subprocess.run(["umount", "--lazy", str(blobs)], check=True)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cramped(small_disk: Path) -> AsyncIterator[Stack]:
    async with Stack(small_disk, allow_same_address=True) as running:
        yield running


def fill(stack: Stack, leave: int) -> Path:
    """A file that takes all room of the store but so many bytes."""
    filler = stack.data_dir / "blobs" / "filler"
    stat = os.statvfs(filler.parent)
    filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - leave))
    return filler


def left_behind(stack: Stack) -> list[Path]:
    return [path for path in (stack.data_dir / "blobs" / "incoming").rglob("*") if path.is_file()]


async def test_an_upload_is_refused_with_a_time_to_come_back_and_succeeds_then(cramped: Stack) -> None:
    data = os.urandom(6 << 20)
    path = f"/v1/blobs/{blake3(data).hexdigest()}"
    filler = fill(cramped, 1 << 20)
    async with api(cramped) as http:
        answer = await http.put(path, content=data)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["type"] == "/problems/store-full" and "store" in answer.json()["detail"]
        assert (await http.head(path)).status_code == 404 and left_behind(cramped) == []
        filler.unlink()
        assert (await http.put(path, content=data)).status_code == 201
        assert (await http.get(path)).content == data


async def test_a_piece_is_refused_and_the_upload_goes_on_where_it_stood(cramped: Stack) -> None:
    data = os.urandom(2 * PIECE)
    path = f"/v1/uploads/{blake3(data).hexdigest()}"

    async def send(http: httpx.AsyncClient, offset: int) -> httpx.Response:
        headers = {"Upload-Offset": str(offset), "Upload-Length": str(len(data))}
        return await http.patch(path, content=data[offset : offset + PIECE], headers=headers)

    async with api(cramped) as http:
        assert (await send(http, 0)).status_code == 204
        filler = fill(cramped, PIECE // 2)
        answer = await send(http, PIECE)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        stands = int((await http.head(path)).headers["upload-offset"])
        assert PIECE <= stands < 2 * PIECE, "what was taken before is kept"
        filler.unlink()
        answer = await send(http, stands)
        assert answer.status_code == 201
        assert (await http.get(path.replace("uploads", "blobs"))).content == data


async def test_results_wait_for_room_and_none_is_lost(cramped: Stack, tmp_path: Path, rng: np.random.Generator) -> None:
    """Workers keep what was not acknowledged; when there is room again the job completes, each task verified once."""
    workers = Workers(cramped, tmp_path)
    try:
        await workers.start("nan", "oli")
        a, b = int8(rng, 60, 64), int8(rng, 64, 3_000)  # 12,000 bytes of result a row
        async with client(cramped) as mesh:
            stored = await mesh.put(a), await mesh.put(b, transpose=True)
            filler = fill(cramped, 64 << 10)
            job = await mesh.submit_matmul(*stored, task_rows=2)
            log = cramped.data_dir / "logs" / "gateway.log"

            async def complains() -> bool:
                return "results cannot be stored" in log.read_text()

            await until(complains, "the gateway says that it cannot store results")
            assert (await job.status())["state"] == "running"
            filler.unlink()
            same(await job.result(timeout=120), product(a, b))
            assert job.last["frauds"] == []
        await check_log(cramped, job.id)
        assert not any(managed.restarts for managed in cramped.processes.values())
    finally:
        await workers.stop()
