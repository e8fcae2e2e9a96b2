"""The log of a mesh, for commands on its machine or in a container beside its services: of the one that runs, or of a
folder where none does.

All that such a command must know to be let in stands here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from nats.errors import Error as NatsError

from shardy_common.config import Settings
from shardy_common.log import JetStreamLog
from shardy_common.log.client import LogClient, connect
from shardy_common.stack import Stack, StackError, _prepare_child
from shardy_common.wire import subjects

START_S = 30.0


def runtime_of(data_dir: Path) -> dict[str, str]:
    """What the stack wrote of itself. StackError when none runs."""
    try:
        return dict(json.loads((Path(data_dir) / "runtime.json").read_text()))
    except (OSError, ValueError):
        raise StackError(f"no running stack on {data_dir}: start it with shardy up --data-dir {data_dir}") from None


@contextlib.asynccontextmanager
async def running_log(data_dir: Path, stream: str = subjects.STREAM) -> AsyncIterator[JetStreamLog]:
    """The log of the mesh that runs, with its archive. SHARDY_NATS_URL names one that `shardy up` does not run."""
    if (url := os.environ.get("SHARDY_NATS_URL")) and not (Path(data_dir) / "runtime.json").exists():
        settings = Settings(data_dir=data_dir)
        access, archive = settings.access, settings.archive_path
    else:
        runtime = runtime_of(data_dir)
        url, seed = runtime["nats_url"], runtime.get("seed_file")
        access, archive = {"seed_file": Path(seed) if seed else None}, Path(data_dir) / "archive"
    try:
        client = await connect(url, name="command", reconnect=False, **access)
    except (NatsError, OSError) as error:
        raise StackError(f"the log of the stack on {data_dir} does not answer ({error}): is it running?") from None
    log = JetStreamLog(client, stream, archive)
    try:
        yield log
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def log_server(data_dir: Path) -> AsyncIterator[LogClient]:
    """A connection to a nats-server on the folder, as its stack would run one, without any service. It ends with the
    block."""
    stack = Stack(data_dir)
    stack.data_dir.mkdir(parents=True, exist_ok=True)
    stack._lock()
    process: asyncio.subprocess.Process | None = None
    client: LogClient | None = None
    try:
        process = await asyncio.create_subprocess_exec(
            *stack.log_servers()["nats-server"],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_prepare_child(nice=0),
        )
        client = await _reached(stack, process)
        yield client
    finally:
        if client is not None:
            await client.close()
        if process is not None and process.returncode is None:
            process.terminate()
            await process.wait()
        stack._lock_file.close()


async def _reached(stack: Stack, process: asyncio.subprocess.Process) -> LogClient:
    for _ in range(int(START_S / 0.1)):
        if process.returncode is not None:
            break
        with contextlib.suppress(NatsError, OSError):
            return await stack.connect("command")
        await asyncio.sleep(0.1)
    raise StackError(f"nats-server does not start on {stack.data_dir / 'nats'}")
