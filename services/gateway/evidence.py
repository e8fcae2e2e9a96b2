"""What receipts rest on: the workers' signatures over their results, and the keys that the mesh has signed with.

Both are kept apart from the tasks: a signature is written once, when its result is folded, and read only when somebody
asks for a receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from shardy_common.log import Recorded, Table
from shardy_common.wire import events as ev
from shardy_gateway.side import SideFold

if TYPE_CHECKING:
    from shardy_gateway.shapes import TaskView

ANSWERS_PER_READ = 4_096
PARTS = 128  # places of one sequence: a message of the log holds fewer events (log/packs.py)


def place_of(recorded: Recorded) -> int:
    """Where an event stands, other than all others: several share a sequence."""
    return recorded.seq * PARTS + recorded.part


class Answer(msgspec.Struct, array_like=True):
    """A result as its worker answered for it. session: the worker's, when it came in. sig, batch: raw bytes, empty
    where the event has none."""

    session: str
    sig: bytes
    batch: bytes
    index: int


class Machine(msgspec.Struct, array_like=True):
    """What a worker said of itself when it joined."""

    key: str
    engine: str
    kernels: str


_pack = msgspec.msgpack.Encoder().encode
_answer = msgspec.msgpack.Decoder(Answer).decode
_machine = msgspec.msgpack.Decoder(Machine).decode


class Answers(SideFold):
    """One answer for each worker and task, as the quorum counts them: the first; machines by session.

    tasks: the views' active tasks, which note where their answers stand. proves: whether a job's results are proved:
    then a worker may answer again with another lease, and each answer is noted by its lease. In memory: each worker's
    session.
    """

    tables = [
        Table("answers", {"place": int, "lease": str, "body": bytes}),
        Table("machines", {"session": str, "body": bytes}),
        Table("sessions", {"worker": str, "session": str}),
    ]
    filters = ("result.submitted.*", "worker.*.*")

    def __init__(self, tasks: dict[str, TaskView], proves: Callable[[str], bool]) -> None:
        super().__init__()
        self._tasks, self._proves = tasks, proves
        self._session_of: dict[str, str] = {}
        self._answers: list[tuple[int, str, bytes]] = []
        self._machines: dict[str, bytes] = {}
        self._moved: set[str] = set()

    def load(self, projection: Any) -> None:
        """Active tasks are not written again with each answer: where those stand is gathered here."""
        super().load(projection)
        self._session_of = dict(projection.rows("SELECT worker, session FROM sessions"))
        since = min((task.seq for task in self._tasks.values()), default=None)
        if since is not None:
            sql = "SELECT place, lease FROM answers WHERE place > ?"
            for place, lease in projection.rows(sql, (since * PARTS,)):
                task = self._tasks.get(lease.rpartition("-")[0])
                if task is not None and lease in task.leases:
                    task.answers[lease if self._proves(task.job) else task.leases[lease]] = place

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.ResultSubmitted):
            task, worker = self._tasks.get(event.task), event.worker
            if task is None or task.leases.get(event.lease) != worker:
                return
            by = event.lease if self._proves(task.job) else worker
            if by in task.answers:
                return
            place = task.answers[by] = place_of(recorded)
            sig, batch = bytes.fromhex(event.sig), bytes.fromhex(event.batch)
            body = _pack((self._session_of.get(worker, ""), sig, batch, event.index))
            self._answers.append((place, event.lease, body))
        elif isinstance(event, ev.WorkerJoined):
            self._session_of[event.worker] = event.session
            self._moved.add(event.worker)
            self._machines[event.session] = _pack(Machine(event.key, event.probe.engine, event.probe.kernels))

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        answers, self._answers = self._answers, []
        machines, self._machines = self._machines, {}
        moved, self._moved = self._moved, set()
        return {
            "answers": list(answers),
            "machines": list(machines.items()),
            "sessions": [(worker, self._session_of[worker]) for worker in moved],
        }

    def at(self, places: Sequence[int]) -> dict[int, tuple[str, Answer]]:
        """Leases and their answers, by where those stand in the log. The caller has read their tasks: no flush."""
        found: dict[int, tuple[str, Answer]] = {}
        for start in range(0, len(places), ANSWERS_PER_READ):
            some = places[start : start + ANSWERS_PER_READ]
            rows = self.projection.rows(
                f"SELECT place, lease, body FROM answers WHERE place IN ({','.join('?' * len(some))})", some
            )
            found.update((place, (lease, _answer(body))) for place, lease, body in rows)
        return found

    def machine(self, session: str) -> Machine | None:
        rows = self.projection.rows("SELECT body FROM machines WHERE session = ?", (session,))
        return _machine(rows[0][0]) if rows else None


class MeshKeys(SideFold):
    """Every key that receipts were ever signed with, in the order of their first use."""

    tables = [Table("mesh_keys", {"seq": int, "key": str, "since_ms": int})]
    filters = ("mesh.keyed.*",)

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, int] = {}  # key → since when, in the log's time
        self._fresh: list[tuple[int, str, int]] = []

    def load(self, projection: Any) -> None:
        super().load(projection)
        self.known = dict(projection.rows("SELECT key, since_ms FROM mesh_keys ORDER BY seq"))

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.MeshKeyed) and event.key not in self.known:
            self.known[event.key] = recorded.at_ms
            self._fresh.append((recorded.seq, event.key, recorded.at_ms))

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        fresh, self._fresh = self._fresh, []
        return {"mesh_keys": list(fresh)}
