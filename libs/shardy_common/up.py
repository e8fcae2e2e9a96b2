"""`shardy up`: a stack that stays until it is stopped."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from shardy_common.stack import Stack
from shardy_common.stack_words import facts, greeting


def up_command(
    data_dir: Path, host: str, port: int, demo: bool, as_json: bool = False, development: bool = False
) -> None:
    """`shardy up`: start, print where and with which key, stay until Ctrl-C. demo allows replicas on one address.
    as_json: print one line for programs instead. development: development keys of proofs are taken."""

    async def stay() -> None:
        stop = asyncio.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        env = {"SHARDY_DEVELOPMENT": "true"} if development else {}
        stack = Stack(data_dir, host=host, port=port, allow_same_address=demo, env=env)
        starting = asyncio.create_task(stack.start())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                print(json.dumps(facts(stack)) if as_json else greeting(stack, demo, development), flush=True)
                await stop.wait()
        finally:
            starting.cancel()
            stopped.cancel()
            await asyncio.gather(starting, stopped, return_exceptions=True)
            await stack.stop()

    asyncio.run(stay())
