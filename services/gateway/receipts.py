"""Making receipts out of the projection: statements of tasks, and of a job over all of its tasks.

A job may have any number of tasks, so its receipt is made twice over in pages: once for the root that is signed, once
for the list that is sent. Of each task no more than a number is kept between the pages.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from shardy_common import kinds
from shardy_common.blobs import DirectoryStore, MissingBlob
from shardy_common.errors import Refused, Transient
from shardy_common.receipts import (
    Credited,
    GrowingRoot,
    Signer,
    Tree,
    canonical,
    job_statement,
    task_leaf,
    task_statement,
)
from shardy_common.receipts.proofs import Proved, proved_of
from shardy_common.wire import events as ev
from shardy_common.wire import merkle
from shardy_gateway.shapes import JobView, TaskView
from shardy_gateway.views import Views

TASKS_PER_PAGE = 100  # some milliseconds of work, after which others get their turn
TREES_KEPT = 256  # of frames, whose results lie in tasks that follow one another: at most 16 MiB
STATEMENTS_KEPT = 1_000  # of jobs, a kilobyte each
MADE_AT_ONCE = 2  # jobs whose root is being made: the others wait
_task = msgspec.msgpack.Decoder(TaskView).decode


class Receipts:
    """views: gives them as they are now (a rebuild makes new ones)."""

    def __init__(self, views: Callable[[], Views], blobs: DirectoryStore, mesh: str, signer: Signer | None) -> None:
        self._views, self._blobs, self._mesh, self._signer = views, blobs, mesh, signer
        self._trees: OrderedDict[bytes, Tree] = OrderedDict()
        self._statements: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()
        self._turns = asyncio.Semaphore(MADE_AT_ONCE)

    @property
    def key(self) -> str:
        """The public key (hex) that receipts are signed with now; empty where there is none."""
        return self._signer.key if self._signer else ""

    def of_task(self, job: JobView, task_id: str) -> bytes:
        """The receipt of a verified task."""
        signer = self._signing()
        rows = self._views().answers.read("SELECT body FROM tasks WHERE id = ? AND job = ?", (task_id, job.id))
        if not rows:
            raise Refused("the job has no task of this id", status=404, title="No such task")
        task = _task(rows[0][0])
        if not task.digest:
            raise Refused(
                f"the task is {task.method or 'not verified yet'}: only verified tasks have receipts",
                status=409,
                title="No receipt",
            )
        (statement,) = self._task_statements(job, [task])
        keys = self._keys([statement])
        return canonical({"statement": statement, "signature": signer.sign(statement)} | keys)

    async def of_job(self, job: JobView) -> tuple[bytes, AsyncIterator[bytes]]:
        """What identifies the receipt (statement and signature), and its bytes in blocks."""
        signer = self._signing()
        if job.state != "completed":
            detail = job.error or "a job has a receipt once it has completed"
            raise Refused(f"the job is {job.state}: {detail}", status=409, title="No receipt")
        statement = self._statements.get((job.id, job.seq))
        if statement is None:
            async with self._turns:
                statement = await self._job_statement(job)
        self._keep(job, statement)
        head = canonical({"statement": statement, "signature": signer.sign(statement)})
        return head, self._blocks(job, head, statement["tasks"])

    def _signing(self) -> Signer:
        if self._signer is None:
            raise Transient(
                "this gateway has no key to sign receipts with: whoever runs it sets SHARDY_MESH_KEY_FILE "
                "(docs/receipts.md)",
                retry_ms=60_000,
            )
        return self._signer

    def _keep(self, job: JobView, statement: dict[str, Any]) -> None:
        self._statements[job.id, job.seq] = statement
        self._statements.move_to_end((job.id, job.seq))
        while len(self._statements) > STATEMENTS_KEPT:
            self._statements.popitem(last=False)

    async def _job_statement(self, job: JobView) -> dict[str, Any]:
        root, methods, ops = GrowingRoot(), dict[str, int](), 0
        async for tasks in self._pages(job):
            for task, statement in zip(tasks, self._task_statements(job, tasks), strict=True):
                root.add(task_leaf(statement))
                methods[task.method] = methods.get(task.method, 0) + 1
                ops += task.ops
        return job_statement(
            mesh=self._mesh,
            job=job.id,
            requester=job.requester,
            spec=job.spec,
            tasks=root.count,
            tasks_root=root.root(),
            methods=methods,
            ops=ops,
            submitted_ms=job.created_ms,
            completed_ms=job.ended_ms,
            seq=job.seq,
        )

    async def _blocks(self, job: JobView, head: bytes, count: int) -> AsyncIterator[bytes]:
        """The whole receipt in canonical form: `tasks` is the last of its keys, and `keys` the first."""
        versions = self._views().proofs.versions_in(job.id)
        keys = canonical(self._texts(versions))
        yield (b'{"keys":' + keys + b"," + head[1:-1] if versions else head[:-1]) + b',"tasks":['
        sent = 0
        async for tasks in self._pages(job):
            statements = self._task_statements(job, tasks)
            yield (b"," if sent else b"") + b",".join(map(canonical, statements))
            sent += len(statements)
        if sent != count:  # the projection was thrown away meanwhile: better no end than a wrong one
            raise RuntimeError(f"{sent} of the {count} tasks of job {job.id} could be read")
        yield b"]}"

    async def _pages(self, job: JobView) -> AsyncIterator[list[TaskView]]:
        """The job's verified tasks in the order of carving."""
        found = self._views().answers.read("SELECT rowid FROM tasks WHERE job = ? ORDER BY col0, row0, id", (job.id,))
        order = [row for (row,) in found]
        for start in range(0, len(order), TASKS_PER_PAGE):
            some = order[start : start + TASKS_PER_PAGE]
            marks = ",".join("?" * len(some))
            rows = self._views().projection.rows(
                f"SELECT body FROM tasks WHERE rowid IN ({marks}) ORDER BY col0, row0, id", some
            )
            tasks = [task for (body,) in rows if (task := _task(body)).digest]
            if tasks:
                yield tasks
            await asyncio.sleep(0)

    def _task_statements(self, job: JobView, tasks: list[TaskView]) -> list[dict[str, Any]]:
        answers = self._views().answers
        proofs = {task.id: self._proof_of(task) for task in tasks if task.method == kinds.PROOF}
        by = {id_: {event.worker: event.lease} for id_, event in proofs.items() if event is not None}
        places = {t.id: {w: t.answers.get(by.get(t.id, {}).get(w, w), 0) for w in t.workers} for t in tasks}
        found = answers.at([place for some in places.values() for place in some.values() if place])
        machines = {session: answers.machine(session) for session in {answer.session for _, answer in found.values()}}
        out = []
        for task in tasks:
            credited = []
            for worker in task.workers:
                lease, answer = found.get(places[task.id][worker], ("", None))
                machine = machines.get(answer.session) if answer else None
                if answer is None or machine is None:
                    raise Refused(
                        f"the log does not hold how worker {worker} answered task {task.id}",
                        status=410,
                        title="Evidence gone",
                    )
                place = self._place(task, lease, answer.batch, answer.index) if answer.sig else (0, 1, [])
                credited.append(
                    Credited(worker, machine.key, lease, machine.engine, machine.kernels, answer.sig.hex(), *place)
                )
            out.append(
                task_statement(
                    mesh=self._mesh,
                    job=job.id,
                    spec=job.spec,
                    task=task.id,
                    tile=task.tile,
                    result=(task.digest, task.size),
                    method=task.method,
                    rounds=task.rounds,
                    workers=credited,
                    verified_ms=task.verified_ms,
                    seq=task.seq,
                    proved=self._proved(task, proofs[task.id]) if task.method == kinds.PROOF else None,
                )
            )
        return out

    def _proof_of(self, task: TaskView) -> ev.ProofVerified | None:
        return self._views().proofs.of_task(task.id, task.workers[0], task.digest)

    def _proved(self, task: TaskView, event: ev.ProofVerified | None) -> Proved:
        try:
            if event is None:
                raise ValueError("the log does not hold its proof")
            return proved_of(event, self._blobs.read(event.statements), self._blobs.read(event.proofs))
        except (MissingBlob, ValueError, msgspec.MsgspecError) as error:
            raise Refused(
                f"the proof of task {task.id} is no longer there: {error}", status=410, title="Evidence gone"
            ) from None

    def _keys(self, statements: list[dict[str, Any]]) -> dict[str, Any]:
        """The verification keys that the statements name: nothing where they name none."""
        versions = {s["proof"]["version"] for s in statements if s["proof"] is not None}
        return {"keys": self._texts(versions)} if versions else {}

    def _texts(self, versions: Iterable[str]) -> dict[str, str]:
        verifiers = self._views().verifiers
        return {verifiers.registry.versions[version].vk_hash: verifiers.key_of(version) for version in versions}

    def _place(self, task: TaskView, lease: str, batch: bytes, index: int) -> tuple[int, int, list[str]]:
        """index, count and audit path of a result in its frame."""
        if not batch:
            return 0, 1, []
        tree = self._trees.get(batch)
        if tree is None:
            try:
                data = self._blobs.read(batch.hex())
            except MissingBlob:
                raise Refused(
                    f"the frame that a worker signed for task {task.id} is no longer stored",
                    status=410,
                    title="Evidence gone",
                ) from None
            size = merkle.HASH_BYTES
            tree = self._trees[batch] = Tree([data[at : at + size] for at in range(0, len(data), size)])
            while len(self._trees) > TREES_KEPT:
                self._trees.popitem(last=False)
        if index >= tree.count or tree.leaf(index) != merkle.leaf(lease, bytes.fromhex(task.digest), task.size):
            raise Refused(
                f"the frame that is stored for task {task.id} does not hold its result",
                status=410,
                title="Evidence gone",
            )
        return index, tree.count, [h.hex() for h in tree.path(index)]
