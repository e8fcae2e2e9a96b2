"""A gateway that runs out of file descriptors refuses further sockets with words; those that are open go on."""

from __future__ import annotations

import resource
import sys
from contextlib import AsyncExitStack

import httpx
import pytest
from rawsocket import RawWorker

from shardy_common.stack import Stack
from shardy_gateway.descriptors import RESERVED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit changes a running process on Linux alone")
FIT, MORE = 12, 6


async def test_a_socket_too_many_is_refused_and_the_others_stay(stack: Stack, http: httpx.AsyncClient) -> None:
    gateway = stack.processes["gateway"].pid
    before = resource.prlimit(gateway, resource.RLIMIT_NOFILE)
    assert before[0] == before[1], "the gateway raises its limit to the hard one when it starts"
    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(RawWorker(stack))
        await first.join()
        open_now = (await http.get("/healthz")).json()["workers"]
        try:
            resource.prlimit(gateway, resource.RLIMIT_NOFILE, (RESERVED + open_now + FIT, before[1]))
            sockets = [await opened.enter_async_context(RawWorker(stack)) for _ in range(FIT + MORE)]
            for refused in sockets[FIT:]:
                closed = await refused.closed()
                assert closed.code == 1012 and "file descriptors" in closed.reason
                assert closed.bye is not None and closed.bye["retry_ms"] > 0
            for fits in sockets[:FIT]:
                assert (await fits.hello())["t"] == "challenge"
            await first.send({"t": "heartbeat"})
            assert (await first.receive("heartbeat"))["t"] == "heartbeat"
            assert (await http.get("/healthz")).status_code == 200
        finally:
            resource.prlimit(gateway, resource.RLIMIT_NOFILE, before)
        again = await opened.enter_async_context(RawWorker(stack))
        assert (await again.hello())["t"] == "challenge"
