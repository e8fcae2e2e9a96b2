"""Proofs between the worker's state and its prover: they outlive connections, as the work for them is long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shardy_client.identity import cache_folder
from shardy_client.worker.cache import Key
from shardy_client.worker.kinds import Bytes
from shardy_client.worker.proving import Asked, ProveError, Prover, Proving
from shardy_client.worker.transfer import TransferError, Transfers

if TYPE_CHECKING:
    from shardy_client.worker.state import WorkerState

log = logging.getLogger("shardy.worker")
SESSION_S = 60.0  # how long a proof waits for a session to fetch in


class ProofDesk:
    """transfers: how bytes are fetched, once the worker runs; output: set when there is something to send."""

    def __init__(
        self,
        state: WorkerState,
        transfers: Callable[[], Transfers | None],
        output: asyncio.Event,
        folder: Path | None = None,
    ) -> None:
        self._state, self._transfers, self._output = state, transfers, output
        self._folder = folder or cache_folder() / "proving-keys"
        self._proving: Proving | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, asked: Asked, ended: Callable[[asyncio.Task[None]], None]) -> None:
        """Prove; ended: hears of it whatever becomes of it."""
        if self._proving is None:
            self._proving = Proving(self._folder, make_prover)
        task = asyncio.get_running_loop().create_task(self._prove(self._proving, asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(ended)

    async def _prove(self, proving: Proving, asked: Asked) -> None:
        try:
            proofs, ms = await proving.prove(asked, self._fetch)
        except (ProveError, TransferError) as error:
            code = error.code if isinstance(error, ProveError) else "fetch"
            log.warning("task %s is not proved: %s", asked.terms.task, error)
            self._state.prove_failed(asked.lease, code, str(error))
        else:
            self._state.proved(asked.lease, proofs, round(ms, 3), "wasm")
        self._output.set()

    async def _fetch(self, key: Key) -> Bytes:
        for _ in range(int(SESSION_S / 0.1)):
            transfers, token = self._transfers(), self._state.token
            if transfers is not None and token:
                return await transfers.fetch(key, token)
            await asyncio.sleep(0.1)
        raise TransferError("no session to fetch in")

    async def aclose(self) -> None:
        """Leave what runs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._proving is not None:
            await self._proving.aclose()


def make_prover(zkey: bytes, r1cs: bytes) -> Prover:
    """Two threads: a worker's machine is somebody's."""
    from shardy_common.proofs.prover import Prover as OwnProver

    return OwnProver(zkey, r1cs, threads=2)
