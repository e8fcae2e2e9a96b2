"""The prover-verifier of a simulated mesh: its core, and tokens in place of pairings (mesh_tokens.py)."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

import mesh_tokens
from mesh_nodes import Node, Pool
from mesh_oracle import check

from shardy_common.log import Append, Recorded
from shardy_common.wire import events as ev
from shardy_prover_verifier import fold as prover
from shardy_prover_verifier.state import Check, Draw

if TYPE_CHECKING:
    from mesh_world import Mesh


class VerifierNode(Node):
    """ticks: only where something is proved, for an answer that never comes is a matter of time. dies_amid_proof: once
    it has checked a proof, before it says what came of it."""

    kind, tables, version = "prover-verifier", prover.TABLES, prover.VERSION

    def __init__(self, mesh: Mesh, name: str, pool: Pool) -> None:
        self.ticks = mesh.shape.proofs
        self.dies_amid_proof = False
        super().__init__(mesh, name, pool)

    def make_core(self) -> Any:
        core = prover.ProverCore(self.replicas.owns)
        core.verifiers.flush = self.commit
        return core

    def observe(self, batch: list[Recorded]) -> None:
        """Whatever is open is known by its place in the log."""
        waiting = {task for task, t in self.core.proving.tasks.items() if t.open is not None and not t.open.proofs}
        check(waiting == set(self.core.proving.waiting), self.name, "waits for others:", waiting)

    def replicas_changed(self) -> None:
        self.core.proving.review()
        super().replicas_changed()

    def react(self) -> None:
        try:
            appends, work = self.core.proving.decide(self.now_ms)
        except sqlite3.OperationalError:  # a key is read from a disk that is full: the process ends
            self.fall()
            return
        self.propose(appends)
        for asked in work:
            self._check_accepted(asked)
            self.mesh.later(self.mesh.delay(200), partial(self._examine, self.life, asked))

    def _examine(self, life: int, asked: Draw | Check) -> None:
        if self.life != life:
            return
        mesh, proving = self.mesh, self.core.proving
        missing = mesh.happens("bytes that were missing", 0.03)
        if isinstance(asked, Draw):
            nonce = f"{mesh.rng.getrandbits(256):064x}"
            mesh.explainer.proofs.nonces[nonce] = (asked.lease, asked.digest, len(mesh.log.events))
            self.propose(proving.drawn(mesh_tokens.draw(mesh.work, asked, nonce, missing), self.now_ms))
        else:
            found = mesh_tokens.check(mesh.work, asked, missing)
            if self.dies_amid_proof:
                self.dies_amid_proof = False
                mesh.count("crashes between proof and verdict")
                self.fall()
                return
            self.propose(proving.checked(found))
        self.wake()

    def propose(self, items: list[Append]) -> None:
        for item in items:
            self._check_proposed(item.event)
        super().propose(items)

    def _check_accepted(self, asked: Draw | Check) -> None:
        """What it looks at counts by what it has read, and by its clock."""
        version = asked.version if isinstance(asked, Draw) else asked.terms.version
        lease = asked.lease if isinstance(asked, Draw) else asked.terms.lease
        check(self._accepts(version, asked.task, lease), "a proof under a version that does not count:", asked)

    def _accepts(self, version: str, task: str, lease: str) -> bool:
        explainer = self.mesh.explainer
        seq = explainer.tasks[task].leases[lease].seq
        return explainer.versions.accepts(version, seq, self.now_ms, self.at)

    def _check_proposed(self, event: ev.Event) -> None:
        versions = self.mesh.explainer.versions
        if isinstance(event, ev.ProofVerified):
            check(not versions.revoked(event.version, self.at), "a proof under a revoked version counts:", event)
        elif isinstance(event, ev.ProofRejected) and event.cause == "late":
            deadline = self.mesh.explainer.proofs.of(event.lease).deadline_ms
            check(self.now_ms > deadline, "a proof is late before its time:", event, deadline, self.now_ms)
        elif isinstance(event, ev.ProofRejected) and event.cause == "version":
            job = self.mesh.explainer.jobs[event.job]
            seq = self.mesh.explainer.tasks[event.task].leases[event.lease].seq
            assert job.spec.proof is not None
            pinned = versions.active(job.spec.proof.circuit, seq)
            now_ms = max(self.now_ms, versions.latest_ms)  # ended graces are forgotten by the clock of the log
            counts = bool(pinned) and versions.accepts(pinned, seq, now_ms, self.at)
            check(not counts, "a version counts, and is refused:", event, pinned)

    def settled(self, item: Append, accepted: bool) -> None:
        self.core.proving.settled(item, accepted)
