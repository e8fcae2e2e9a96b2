"""nats-server is killed, and finds bytes behind its last event that it never wrote, as after a power cut.

What nats-server 2.15 does with its newest block: garbage or zeros behind the last message change nothing. From the
first message on whose checksum is wrong it cuts the block off, without a word, and gives the sequences of what was
there to what is appended next (test_another_log.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.faults.logs import last_seq, newest_block
from bench.faults.mesh import Mesh, log_killed, log_started, until


async def test_garbage_behind_the_last_event_is_passed_over(pair: Mesh) -> None:
    pair.load()
    await pair.goes_on()
    await pair.rest()
    await until(pair.live, "everybody is there")
    before = await last_seq(pair.stack)
    await log_killed(pair)
    append(newest_block(pair.stack.data_dir), os.urandom(500) + bytes(500))
    log_started(pair)
    pair.load()
    await pair.goes_on()
    assert await last_seq(pair.stack) > before
    await pair.in_peace(rebuilt=("gateway", "matchmaker", "quorum"))


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
