"""AsyncLooks for programs without an event loop: the same calls, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shardy_client.upload import OnTransfer, silent

if TYPE_CHECKING:
    from shardy_client.mesh import AsyncMesh
    from shardy_client.sync import Home, Job

Answer = dict[str, Any]


class Looks:
    """See AsyncLooks."""

    _mesh: AsyncMesh
    _home: Home

    def info(self) -> Answer:
        """Name, version, policies, kinds, limits, and `mesh_key`, which signs receipts."""
        return self._home.run(self._mesh.info())

    def jobs(self, limit: int = 20, before: str | None = None, state: str | None = None, all: bool = False) -> Answer:
        """Your jobs, newest first; all: everybody's (operate)."""
        return self._home.run(self._mesh.jobs(limit, before, state, all))

    def tasks(self, job: str | Job, limit: int = 100, after: str | None = None) -> Answer:
        """The tasks of a job: tiles, workers, digests, verdicts."""
        return self._home.run(self._mesh.tasks(_id(job), limit, after))

    def usage(self, job: str | Job) -> Answer:
        """What a job cost: {"ops", "ops_replicas"}."""
        return self._home.run(self._mesh.usage(_id(job)))

    def receipt(self, job: str | Job, task: str | None = None) -> Answer:
        """The mesh's signed receipt of a completed job, or of one of its tasks."""
        return self._home.run(self._mesh.receipt(_id(job), task))

    def listing(self, name: str) -> Answer:
        """`workers`, `frauds` or `dlq`, the first page."""
        return self._home.run(self._mesh.listing(name))

    def workers(self, limit: int = 100, after: str | None = None, present: bool | None = None) -> Answer:
        """Devices that ever joined, or those that are here now."""
        return self._home.run(self._mesh.workers(limit, after, present))

    def worker(self, worker: str) -> Answer:
        """One device: trust, credit, record, and the evidence of every wrong result."""
        return self._home.run(self._mesh.worker(worker))

    def frauds(self, limit: int = 100, before: str | None = None) -> Answer:
        """Results that were proven wrong, newest first."""
        return self._home.run(self._mesh.frauds(limit, before))

    def credit(self, limit: int = 100, after: str | None = None) -> Answer:
        """Verified work by device, and in all."""
        return self._home.run(self._mesh.credit(limit, after))

    def ledger(
        self, worker: str | None = None, job: str | None = None, after: int | None = None, limit: int = 100
    ) -> Answer:
        """The entries that credit is made of, oldest first."""
        return self._home.run(self._mesh.ledger(worker, job, after, limit))

    def export_credit(self, path: str | os.PathLike[str]) -> int:
        """Write the whole ledger into a CSV file; its bytes."""
        return self._home.run(self._mesh.export_credit(path))

    def dlq(
        self, limit: int = 50, before: str | None = None, cause: str | None = None, state: str | None = None
    ) -> Answer:
        """Dead letters, newest first (operate)."""
        return self._home.run(self._mesh.dlq(limit, before, cause, state))

    def letter(self, entry: str) -> Answer:
        """One dead letter (operate)."""
        return self._home.run(self._mesh.letter(entry))

    def replay(self, entry: str) -> Answer:
        """Try again what a dead letter is about (operate)."""
        return self._home.run(self._mesh.replay(entry))

    def discard(self, entry: str, reason: str) -> Answer:
        """Close a dead letter for good, saying why (operate)."""
        return self._home.run(self._mesh.discard(entry, reason))

    def log(
        self,
        limit: int = 100,
        after: int | None = None,
        before: int | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        **wanted: str | None,
    ) -> Answer:
        """Events, newest first, or those after a sequence, oldest first (operate)."""
        return self._home.run(self._mesh.log(limit, after, before, since_ms, until_ms, **wanted))

    def follow_log(self, after: int | None = None, **wanted: str | None) -> Iterator[dict[str, Any]]:
        """Every event from now on, or after a sequence (operate), without end."""
        return self._home.iterate(self._mesh.follow_log(after, **wanted))

    def story(self, task: str) -> Answer:
        """What happened to a task, in order, and why (operate)."""
        return self._home.run(self._mesh.story(task))

    def keys(self, limit: int = 100, after: str | None = None) -> Answer:
        """The API keys, without their secrets (operate)."""
        return self._home.run(self._mesh.keys(limit, after))

    def issue_key(self, label: str, scopes: Sequence[str] = ("submit",), expires_s: int | None = None) -> Answer:
        """Make an API key (operate); the answer's `key` is shown this once."""
        return self._home.run(self._mesh.issue_key(label, scopes, expires_s))

    def rotate_key(self, key_id: str, grace_s: int | None = None) -> Answer:
        """A new key of the same owner and scopes; the old one ends after grace_s."""
        return self._home.run(self._mesh.rotate_key(key_id, grace_s))

    def revoke_key(self, key_id: str) -> Answer:
        """End a key at once."""
        return self._home.run(self._mesh.revoke_key(key_id))

    def verifiers(self, limit: int = 100, after: str | None = None, circuit: str | None = None) -> Answer:
        """Versions of verification keys by circuit, the oldest first (operate)."""
        return self._home.run(self._mesh.verifiers(limit, after, circuit))

    def verifier(self, version: str) -> Answer:
        """One version with its key (operate)."""
        return self._home.run(self._mesh.verifier(version))

    def register_verifier(
        self,
        circuit: str,
        version: str,
        shape: Sequence[int],
        vk: dict[str, Any],
        dev: bool = False,
        files: dict[str, bytes] | None = None,
        on_transfer: OnTransfer = silent,
    ) -> Answer:
        """Register a verification key (operate). shape: m, k, n. files: `zkey` and `r1cs`, for workers."""
        return self._home.run(self._mesh.register_verifier(circuit, version, shape, vk, dev, files, on_transfer))

    def rotate_verifier(self, circuit: str, version: str, grace_s: int | None = None) -> Answer:
        """Make a version the active one of its circuit (operate)."""
        return self._home.run(self._mesh.rotate_verifier(circuit, version, grace_s))

    def revoke_verifier(self, version: str, why: str, successor: str | None = None) -> Answer:
        """Revoke a version for good (operate)."""
        return self._home.run(self._mesh.revoke_verifier(version, why, successor))

    def pages(
        self, look: Callable[..., Any], name: str, cursor: str, limit: int | None = None, **more: Any
    ) -> Iterator[dict[str, Any]]:
        """Every entry of a list, page by page: `pages(mesh.ledger, "entries", "after")`."""
        walk = getattr(self._mesh, look.__name__)
        return self._home.iterate(self._mesh.pages(walk, name, cursor, limit, **more))


def _id(job: str | Job) -> str:
    return job if isinstance(job, str) else job.id
