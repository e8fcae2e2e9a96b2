"""What must hold when all is over: what each service holds is what a replay of the log gives it, byte for byte, and
what its look-ups say is what the log says, told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mesh_gateway import GatewayNode
from mesh_nodes import GossipNode, MatchmakerNode, Node, QuorumNode
from mesh_oracle import check
from mesh_prover import VerifierNode
from mesh_verifiers import check_verifiers
from mesh_work import shape_of

from shardy_common import trust
from shardy_common.log.packs import unpack
from shardy_common.proofs.statement import Terms

if TYPE_CHECKING:
    from mesh_world import Mesh


def check_end(mesh: Mesh) -> None:
    for job in mesh.explainer.jobs.values():
        if job.state == "completed":
            cover = np.zeros(shape_of(job.spec), np.int8)
            for tile in job.done:
                cover[tile.row0 : tile.row0 + tile.rows, tile.col0 : tile.col0 + tile.cols] += 1
            check(bool((cover == 1).all()), "the tiles do not cover the result once:", job.id, cover)
    for node in mesh.nodes:
        check_replay(mesh, node)
        if isinstance(node, GatewayNode):
            _check_views(mesh, node)
            check_verifiers(node, node.core.verifiers.registry)
        elif isinstance(node, MatchmakerNode):
            _check_trust(mesh, node, node.core.matchmaker.fold.book.of)
            left = node.core.matchmaker.fold
            check(not left.jobs and not left.tasks, node.name, "still holds", left.jobs, left.tasks)
        elif isinstance(node, QuorumNode):
            _check_trust(mesh, node, node.core.quorum.book.of)
            check(not node.core.quorum.jobs, node.name, "still holds", node.core.quorum.jobs)
        elif isinstance(node, GossipNode):
            told = {row[0]: row[1] for row in node.disk.committed["digests"].values()}
            verified = {task.id: task.digest for task in mesh.explainer.tasks.values() if task.ended == "verified"}
            check(told == verified, "the gossip-bridge knows other digests:", told, verified)
        elif isinstance(node, VerifierNode):
            check_verifiers(node, node.core.verifiers.registry)
            proving = node.core.proving
            check(not proving.jobs and not proving.tasks, node.name, "still holds", proving.jobs, proving.tasks)


def check_replay(mesh: Mesh, node: Node) -> None:
    fresh = node.make_core()
    takes = node.takes
    for recorded in mesh.log.events:
        if takes[type(recorded.event)]:
            for single in unpack(recorded):
                fresh.evolve(single)
    replayed: dict[str, dict[Any, Any]] = {
        table: {row[0]: tuple(row) for row in rows} for table, rows in fresh.rows().items()
    }
    for table, live in node.disk.committed.items():
        again = replayed.get(table, {})
        if live != again:
            differ = sorted(key for key in {*live, *again} if live.get(key) != again.get(key))
            check(False, node.name, table, "is not what a replay gives:", differ[:3], _shown(live, again, differ))


def _shown(live: dict[Any, Any], again: dict[Any, Any], differ: list[Any]) -> str:
    return f"{live.get(differ[0])} and {again.get(differ[0])}"


def _check_trust(mesh: Mesh, node: Node, of: Any) -> None:
    for worker, known in mesh.oracle.workers.items():
        record: trust.Record = of(worker)
        says = (record.tasks, record.ops, record.exposure if not record.faults else 0, bool(record.faults), record.lent)
        owed = (known.checked, known.ops, known.out if not known.guilty else 0, known.guilty, 0)
        check(says == owed, node.name, "believes of", worker, says, "where the log says", owed)


def _check_views(mesh: Mesh, node: GatewayNode) -> None:
    core, explainer = node.core, mesh.explainer
    for worker, known in mesh.oracle.workers.items():
        record = core.reputations.of(worker).trust
        says = (record.tasks, record.ops, record.exposure if not record.faults else 0, bool(record.faults))
        owed = (known.checked, known.ops, known.out if not known.guilty else 0, known.guilty)
        check(says == owed, "the reputation of", worker, "is", says, "where the log says", owed)
        check(core.ledger.total_of(worker) == explainer.credit_of(worker, node.at), "credit of", worker)
    entries = core.ledger.page(limit=10_000)
    owed_entries = [(seq, worker) for seq, credit in explainer.credit.items() for worker in sorted(credit.workers)]
    check([(e.seq, e.worker) for e in entries] == owed_entries, "the ledger's entries are others:", entries)
    check(not core.proofs.open, node.name, "still asks for proofs:", core.proofs.open)
    for task, lease in explainer.proofs.counts.items():
        terms = explainer.proofs.asked[lease].terms
        proved = core.proofs.of_task(task, terms.worker, terms.digest)
        said = Terms.of(proved) if proved is not None else None
        check(said == terms, "the proof of task", task, "is shown as", said, "where the log has", terms)
    for job in explainer.jobs.values():
        view = core.job(job.id)
        says = (view.state, view.cells_done, view.tasks_verified, view.ops, view.ops_replicas)
        owed = (job.state, job.cells_done, len(job.done), job.ops, job.ops_replicas)
        check(says == owed, "job", job.id, "is shown as", says, "where the log says", owed)
        if job.state == "completed":
            _check_receipts(mesh, node, job)
    shown = {letter.entry: letter.state != "open" for letter in core.letters.page(10_000)}
    told = {entry: bool(letter.closed) for entry, letter in explainer.letters.items()}
    check(shown == told, "other dead letters are shown:", shown, told)
    for key, end in explainer.key_ends(node.at).items():
        said = core.keyring.end_in_log(key)
        check(said in (end, None), "key", key, "ends at", said, "where it was ended at", end)


def _check_receipts(mesh: Mesh, node: GatewayNode, job: Any) -> None:
    """A receipt names, for each worker of a verdict, the answer that counted: the one that the log has of it."""
    for view in node.core.tasks_in(job.id):
        if view.digest:
            explainer = mesh.explainer
            story = explainer.tasks[view.id]
            lease = explainer.proofs.counts.get(view.id)
            places = {worker: view.answers.get(lease or worker, 0) for worker in view.workers}
            owed = {worker: story.votes[worker][1] for worker in view.workers}
            if lease is not None:
                owed = {story.leases[lease].worker: story.leases[lease].place}
            check(places == owed, "a receipt rests on other answers:", view, owed)
            found = node.core.answers.at(list(places.values()))
            for worker, at in places.items():
                lease, answer = found[at]
                check(story.leases[lease].worker == worker, "a receipt names another's answer:", lease, worker)
                check(node.core.answers.machine(answer.session) is not None, "a receipt of no machine:", answer)
