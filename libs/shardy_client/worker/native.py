"""The native worker: sockets, threads and time around `WorkerState` (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from shardy_client.errors import InvalidInput, WorkerStopped
from shardy_client.identity import Identity, default_key_path
from shardy_client.worker import measure, prepare
from shardy_client.worker.backends import Interrupted
from shardy_client.worker.closing import STOP_CODES, Retry, after_close, backoff_s, socket_url
from shardy_client.worker.compute import Computer, Outcome, run_batch
from shardy_client.worker.messages import (
    Bye,
    Fetch,
    Instruction,
    Joined,
    Phase,
    ProtocolError,
    Prove,
    RunProbe,
    Sign,
    Upload,
)
from shardy_client.worker.proofdesk import ProofDesk
from shardy_client.worker.state import WorkerState
from shardy_client.worker.transfer import TransferError, Transfers
from shardy_common.ids import worker_id
from shardy_common.wire import frame

log = logging.getLogger("shardy.worker")

AGENT = "native/0.1"
HANDSHAKE_S = 60.0
SILENCE_S = 45.0
BATCH_S = 0.02
BATCH_LEASES = 256
# A result frame counts four times of the 2,000 frames a second that the mesh allows.
FRAME_INTERVAL_S = 1 / 375
FRAME_BURST = 50


class NativeWorker:
    """Joins the mesh at `url` and works until `stop()`, or until the mesh says that it should not come back.

    key_path: the identity's file (made if missing; None: the default file). ephemeral: a key for this process only.
    backend: `auto` (the faster by measurement), `wasm` or `gpu`. name: shown in the mesh's lists.
    threads: products computed at the same time. memory_mib: most memory to use; None: half of what is free.
    computer: makes the object that computes, from backend and fallback (an experiment passes a subclass).
    device: one that was prepared before, for several workers in one process; then backend and computer are not used.
    proves: whether it proves results.
    """

    def __init__(
        self,
        url: str,
        key_path: Path | None = None,
        *,
        ephemeral: bool = False,
        backend: str = "auto",
        name: str = "",
        threads: int = 1,
        memory_mib: int | None = None,
        computer: prepare.MakeComputer = Computer,
        device: prepare.Device | None = None,
        proves: bool = True,
    ) -> None:
        if not 1 <= threads <= 256:
            raise InvalidInput(f"{threads} threads; 1 to 256 are possible")
        if memory_mib is not None and memory_mib < 64:
            raise InvalidInput(f"{memory_mib} MiB are too little to work with; give at least 64")
        self._ws_url = socket_url(url)
        self._identity = Identity.ephemeral() if ephemeral else Identity.load_or_create(key_path or default_key_path())
        self._memory_mib = memory_mib
        self._memory_touched: tuple[int, int] = (0, 0)
        self._threads = threads
        self._backend = backend
        self._make_computer = computer
        self.state = WorkerState(self._identity.public, self._identity.sign_results, f"{AGENT} {name}".strip())
        self.device = device
        self.joined = asyncio.Event()
        self._proves, self._stop = proves, asyncio.Event()
        self._output = asyncio.Event()
        self._work = asyncio.Event()
        self._bye = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transfers: Transfers | None = None
        self._proving = ProofDesk(self.state, lambda: self._transfers, self._output)
        self._bye_seen: Bye | None = None
        self._heartbeat_s = 15.0
        self._crash: BaseException | None = None

    @property
    def worker_id(self) -> str:
        """What the mesh calls this worker: the peer id of its key."""
        return worker_id(self._identity.public)

    def stop(self) -> None:
        """Leave the mesh and end `run`. Products in progress are left."""
        self._stop.set()
        if self.device is not None:
            self.device.stop()

    async def run(self, *, handle_signals: bool = False) -> None:
        """Work until stopped. WorkerStopped when the mesh does not want this worker back.

        handle_signals: SIGINT and SIGTERM call `stop()`.
        """
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError, ValueError):
                    loop.add_signal_handler(number, self.stop)
        executor = ThreadPoolExecutor(self._threads, "compute")
        computing: list[asyncio.Task[None]] = []
        try:
            try:
                if self.device is None:
                    self.device = await loop.run_in_executor(
                        executor,
                        prepare.prepare,
                        self._backend,
                        self._make_computer,
                        self._stop.is_set,
                        self._keep_bytes(),
                    )
            except Interrupted:
                return
            self._transfers = Transfers(self._ws_url.removesuffix("/ws/worker-join").replace("ws", "http", 1))
            computing = [asyncio.create_task(self._compute(executor)) for _ in range(self._threads)]
            await self._until_stopped(asyncio.create_task(self._connect_forever()), *computing)
            if self._crash is not None:
                raise self._crash
        finally:
            await _cancel(*computing)
            await self._proving.aclose()
            if self._transfers is not None:
                await self._transfers.aclose()
            executor.shutdown(wait=True, cancel_futures=True)

    async def _until_stopped(self, *tasks: asyncio.Task[None]) -> None:
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel(*tasks)

    # --- the connection -------------------------------------------------------------------------------------

    async def _connect_forever(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            retry = Retry(None, False, "")
            try:
                async with connect(
                    self._ws_url,
                    compression=None,
                    max_size=frame.FRAME_BYTES_MAX,
                    ping_interval=None,
                    open_timeout=10,
                    close_timeout=2,
                ) as socket:
                    retry = await self._session(socket)
            except (OSError, TimeoutError, websockets.InvalidHandshake, websockets.InvalidURI) as error:
                retry = Retry(None, False, f"cannot reach the mesh at {self._ws_url}: {error or type(error).__name__}")
            finally:
                if self.joined.is_set():
                    attempt = 0
                self._closed()
            if self._stop.is_set():
                return
            delay = backoff_s(attempt) if retry.after_s is None else retry.after_s
            attempt = 0 if retry.reset else attempt + 1
            log.warning("%s; trying again in %.1f s", retry.why, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)

    def _closed(self) -> None:
        self.joined.clear()
        self.state.closed()
        for task in self._tasks:
            task.cancel()

    async def _session(self, socket: ClientConnection) -> Retry:
        """One connection from greeting to close; how to go on after it."""
        self._bye.clear()
        self._bye_seen = None
        self.state.opened()
        self._output.set()
        receiving = asyncio.create_task(self._receive(socket))
        helpers = [
            asyncio.create_task(self._send(socket)),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._leave_on_stop(socket)),
        ]
        try:
            await asyncio.wait([receiving, *helpers], return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        except ProtocolError as error:
            await socket.close(4400, str(error)[:120])
            raise WorkerStopped(f"the mesh broke the protocol: {error}", 4400) from None
        except TimeoutError:
            await socket.close(4408, "silence")
            return Retry(None, False, "the mesh went silent")
        finally:
            await _cancel(receiving, *helpers)
            await socket.close()
        bye, code = self._bye_seen, socket.close_code or 1006
        if bye is not None and (bye.code in STOP_CODES or code in (1000, 1001, 1005, 1006)):
            if bye.code in STOP_CODES:
                after_close(bye.code, bye.reason)
            return Retry(bye.retry_s or None, bye.retry_s > 0, f"the mesh said goodbye: {bye.reason or bye.code}")
        return after_close(code, socket.close_reason or "")

    async def _receive(self, socket: ClientConnection) -> None:
        started = time.monotonic()
        while True:
            # The gateway answers every heartbeat, so silence means a dead connection.
            limit = SILENCE_S if self.state.phase is Phase.READY else HANDSHAKE_S - (time.monotonic() - started)
            try:
                message = await asyncio.wait_for(socket.recv(), max(0.001, limit))
            except websockets.ConnectionClosed:
                return
            if isinstance(message, str):
                raise ProtocolError("a text message")
            try:
                header, segments = frame.decode(message)
            except frame.FrameError as error:
                raise ProtocolError(str(error)) from None
            self._carry_out(self.state.received(header, segments, time.monotonic()))

    async def _send(self, socket: ClientConnection) -> None:
        due = 0.0
        while True:
            await self._output.wait()
            self._output.clear()
            while (data := self.state.next_frame()) is not None:
                try:
                    await socket.send(data)
                except websockets.ConnectionClosed:
                    return
                # Under the mesh's limit on frames; while this waits, results gather and travel together.
                now = time.monotonic()
                due = max(due, now - FRAME_BURST * FRAME_INTERVAL_S) + FRAME_INTERVAL_S
                if due > now:
                    await asyncio.sleep(due - now)

    async def _beat(self) -> None:
        await self.joined.wait()
        while True:
            await asyncio.sleep(self._heartbeat_s)
            self.state.heartbeat()
            self._output.set()

    async def _leave_on_stop(self, socket: ClientConnection) -> None:
        await self._stop.wait()
        self.state.leave()
        self._output.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bye.wait(), 1.0 if self.joined.is_set() else 0)
        await socket.close(1000, "leaving")

    # --- instructions ---------------------------------------------------------------------------------------

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Fetch):
                self._start(self._fetch(instruction))
            elif isinstance(instruction, Upload):
                self._start(self._upload(instruction.lease))
            elif isinstance(instruction, Prove):
                self._proving.start(instruction.asked, self._ended)
            elif isinstance(instruction, Sign):
                self.state.authenticated(self._identity.sign_join(instruction.nonce, instruction.session))
            elif isinstance(instruction, RunProbe):
                self._start(self._probe(instruction))
            elif isinstance(instruction, Joined):
                self._heartbeat_s = instruction.heartbeat_s
                log.info("joined as %s: up to %d leases at a time", instruction.tier, instruction.max_leases)
                self.joined.set()
            elif isinstance(instruction, Bye):
                self._bye_seen = instruction
                self._bye.set()
        if self.state.has_output:
            self._output.set()
        if self.state.has_ready:
            self._work.set()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug here must not leave a worker that looks alive: it ends, with the error.
            self._crash = error
            self.stop()

    async def _probe(self, probe: RunProbe) -> None:
        assert self.device is not None
        loop = asyncio.get_running_loop()
        digest = await loop.run_in_executor(None, self.device.probe, probe)
        measured = self.device.measurement
        memory_mib = await loop.run_in_executor(None, self._memory, probe.memory_mib_max)
        answer = {
            "digest": digest,
            "ms": measured.ms,
            "gops": measured.gops,
            "memory_mib": memory_mib,
            "backend": self.device.computer.backend.name,
            "gpu": self.device.computer.backend.gpu,
            "engine": self.device.computer.backend.engine,
            "kernels": self.device.computer.backend.kernels,
            "proves_mib": memory_mib // 2 if self._proves else 0,
        }
        # What fits: half for operands; the rest for prepared operands, results and the interpreter.
        self.state.cache.resize(max(32, memory_mib // 2) << 20)
        self.state.probed(answer)
        self._output.set()

    def _memory(self, ceiling_mib: int) -> int:
        limit = max(1, min(ceiling_mib, self._memory_mib or measure.free_mib() // 2))
        # A reconnecting worker holds its operands; touching it all again would only push others out of memory.
        if self._memory_touched[0] < limit:
            self._memory_touched = (limit, measure.touch_mib(limit))
        return min(limit, self._memory_touched[1])

    def _keep_bytes(self) -> int:
        # Each compute thread keeps its own, so a quarter of the memory is shared out among them.
        allowed_mib = self._memory_mib or measure.free_mib() // 2
        return min(512 << 20, (allowed_mib << 20) // 4 // self._threads)

    async def _fetch(self, fetch: Fetch) -> None:
        assert self._transfers is not None
        try:
            data = await self._transfers.fetch(fetch.key, self.state.token)
        except TransferError as error:
            log.warning("%s", error)
            self._carry_out(self.state.fetch_failed(fetch.key, str(error)))
        except MemoryError:
            self._carry_out(self.state.fetch_failed(fetch.key, "out of memory"))
        else:
            self._carry_out(self.state.fetched(fetch.key, data))

    async def _upload(self, lease: str) -> None:
        assert self._transfers is not None
        data = self.state.held_data(lease)
        if data is None:
            return
        try:
            await self._transfers.upload(lease, data, self.state.token)
        except TransferError as error:
            log.warning("%s", error)
            self.state.upload_failed(lease, None if error.unwanted else "internal", str(error))
        else:
            self.state.uploaded(lease)
        self._output.set()

    # --- computing ------------------------------------------------------------------------------------------

    async def _compute(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        device = self.device
        assert device is not None
        while True:
            batch = self.state.take(device.measurement.gops * 1e9 * BATCH_S, BATCH_LEASES, time.monotonic())
            if not batch:
                self._work.clear()
                await self._work.wait()
                continue
            self._settle(await loop.run_in_executor(executor, run_batch, device.computer, batch))

    def _settle(self, outcomes: list[Outcome]) -> None:
        instructions: list[Instruction] = []
        for work, outcome in outcomes:
            if isinstance(outcome, Exception):
                self.state.compute_failed(work, outcome.code, str(outcome))
            else:
                instructions += self.state.computed(work, outcome)
        instructions += self.state.progressed()
        self._carry_out(instructions)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run_worker(make: Callable[[], NativeWorker]) -> None:
    """Run a worker to its end in a new event loop; SIGINT and SIGTERM make it leave."""

    # Thousands of leases a second are many small objects without cycles: looking for cycles less often saves a fifth.
    gc.set_threshold(50_000, 20, 50)

    async def main() -> None:
        await make().run(handle_signals=True)

    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(main())
    else:
        uvloop.run(main())
