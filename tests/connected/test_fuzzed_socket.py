"""A hundred thousand frames without sense on the worker socket, while honest workers compute beside it.

Most are of the kinds that a joined session survives: right in form, wrong in everything else, and signed. The rest
break the form, on sockets of their own. The gateway neither stops nor grows, every honest job comes out right, and
nobody is called a fraud.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from meshkit import Workers, api, client, int8, product, same
from rawsocket import Closed, Header, RawWorker, frame

from shardy_common.stack import Stack

SENSELESS, BROKEN = 98_000, 2_000
FUZZERS = 4
FRAMES_PER_S = 1_500  # of one socket: the limit is 2,000, and result frames, which are every tenth, count four times
PART_S_MAX = 90.0
GROWTH_BYTES_MAX = 48 << 20
WORDS = ("", "x", "💥", "a.b.*.>", "-", "none-0", "x" * 300, "j0-0-0-000000-0", "../../etc", "%00")


def rss_bytes(pid: int) -> int:
    """Memory that a process holds just now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def value(rng: Random, depth: int = 0) -> Any:
    """Anything that MessagePack can say."""
    kind = rng.randrange(10 if depth < 3 else 8)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.randrange(-(2**63), 2**63)
    if kind == 3:
        return rng.choice((0.0, -1.0, 1e308, float("nan"), float("inf")))
    if kind in (4, 5):
        return rng.choice(WORDS)
    if kind in (6, 7):
        return rng.randbytes(rng.randrange(70))
    if kind == 8:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(WORDS): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def senseless(rng: Random, raw: RawWorker) -> bytes:
    """A frame that a joined session survives: its form is right."""
    kind = rng.randrange(10)
    noise: Header = {rng.choice(WORDS): value(rng) for _ in range(rng.randrange(3))}
    if kind < 2:  # each is answered
        return frame({**noise, "t": "heartbeat", "visible": value(rng), "active": value(rng)})
    if kind < 9:
        return frame({**noise, "t": "failed", "lease": value(rng), "code": value(rng), "message": value(rng)})
    results = []
    for _ in range(rng.randrange(1, 4)):
        data = rng.randbytes(rng.randrange(40))
        results.append(
            {
                "lease": rng.choice(WORDS),
                "task": value(rng),
                "digest": blake3(data).digest() if rng.random() < 0.5 else rng.randbytes(32),
                "len": rng.randrange(1 << 40),
                "s": value(rng),
                "ms": value(rng),
                "backend": value(rng),
                "spans": value(rng),
            }
        )
    return frame({**noise, "t": "result", "results": results, "sig": raw.sign_results(results)}, (rng.randbytes(24),))


def broken(rng: Random) -> bytes:
    """A frame that breaks the form: a good one with bytes changed, cut off, repeated, or nothing but noise."""
    good = bytearray(frame({"t": "hello", "versions": [2], "key": rng.randbytes(32), "agent": "x", "held": []}))
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randrange(1, 9)):
            good[rng.randrange(len(good))] ^= rng.randrange(1, 256)
        return bytes(good)
    if kind == 1:
        return bytes(good[: rng.randrange(len(good))])
    if kind == 2:
        return bytes(good) * 2
    return rng.randbytes(rng.randrange(200))


async def fuzz(raw: RawWorker, rng: Random, frames: int, enough: Callable[[], bool]) -> None:
    """Send so many frames, and more until it is enough, at a pace that is allowed, and give real leases back as soon as
    they come."""
    started = time.monotonic()

    async def listen() -> None:
        while True:
            if (await raw.receive())["t"] == "lease":
                for lease in list(raw.leases):
                    raw.leases.pop(lease)
                    await raw.send({"t": "failed", "lease": lease, "code": "oom", "message": "no room"})

    listening = asyncio.create_task(listen())
    for sent in itertools.count():
        if sent >= frames and enough():
            break
        await raw.raw(senseless(rng, raw))
        ahead = sent / FRAMES_PER_S - (time.monotonic() - started)
        if ahead > 0.01:
            await asyncio.sleep(ahead)
        elif ahead < -0.1:  # it was kept waiting: what it missed is not made up for, or it would be too fast
            started -= ahead
    assert not listening.done(), f"a session that keeps to the form was ended: {listening.exception()}"
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def break_the_form(stack: Stack, rng: Random, frames: int, codes: Counter[int]) -> None:
    for _ in range(frames):
        async with RawWorker(stack) as raw:
            await raw.raw(broken(rng))
            try:
                await raw.receive("challenge")
            except Closed as closed:
                codes[closed.code] += 1


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_fuzzed_socket(tmp_path: Path) -> None:
    generous = {"SHARDY_JOINS_PER_S": "100000", "SHARDY_JOINS_BURST": "100000"}
    rng = np.random.default_rng(31)
    codes: Counter[int] = Counter()
    async with Stack(tmp_path / "mesh", allow_same_address=True, env=generous) as stack:
        workers = Workers(stack, tmp_path)
        await workers.start("gus", "hal")
        done = 0

        async def honest_work() -> None:
            nonlocal done
            async with client(stack) as mesh:
                while True:
                    a, b = int8(rng, 12, 16), int8(rng, 16, 5)
                    same(await mesh.matmul(a, b, task_rows=6, timeout_s=60), product(a, b))
                    done += 1
                    await asyncio.sleep(0.1)

        try:
            fuzzers = [await RawWorker(stack, f"fuzz-{i}").__aenter__() for i in range(FUZZERS)]
            for raw in fuzzers:
                await raw.join()
            working = asyncio.create_task(honest_work())
            gateway = stack.processes["gateway"]
            sizes = []
            for part in range(4):
                before, ends_s = done, time.monotonic() + PART_S_MAX

                def enough(before: int = before, ends_s: float = ends_s) -> bool:
                    """Honest jobs have ended beside the noise: how many in a second says more of the machine."""
                    return done > before + 1 or working.done() or time.monotonic() > ends_s

                await asyncio.gather(
                    *(
                        fuzz(raw, Random(f"{part} {i}"), SENSELESS // FUZZERS // 4, enough)
                        for i, raw in enumerate(fuzzers)
                    ),
                    break_the_form(stack, Random(part), BROKEN // 4, codes),
                )
                sizes.append(rss_bytes(gateway.pid))
                assert not working.done(), f"honest work failed: {working.exception()}"
                assert done > before + 1, f"{done - before} honest jobs ended in part {part} of the fuzzing"
            working.cancel()
            for raw in fuzzers:
                await raw.leave()
            assert gateway.restarts == 0 and all(managed.restarts == 0 for managed in stack.processes.values())
            assert sizes[-1] - sizes[0] < GROWTH_BYTES_MAX, f"memory grew: {sizes}"
            assert set(codes) <= {1006, 4400, 4406, 4413} and codes[4400] > BROKEN / 4, codes
            async with api(stack) as http:
                assert (await http.get("/v1/frauds")).json()["frauds"] == []
                listed = (await http.get("/v1/workers")).json()["workers"]
                assert {"gus", "hal"} <= {word for w in listed if w["present"] for word in w["name"].split()}
        finally:
            await workers.stop()
