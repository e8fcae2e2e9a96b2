"""The dead letter queue's rules: what becomes a dead letter, with what evidence, and what closes one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardy_common.log import Append, Projection, Recorded, Table
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_dlq.advisories import Advisory, advisory_of

TABLES = [
    Table("entries", {"id": str, "cause": str, "about": str, "seq": int, "at_ms": int, "body": bytes}, [["cause"]]),
    Table("closings", {"id": str, "state": str, "by": str, "at_ms": int, "outcome": str}),
    Table("reopened", {"job": str, "seq": int, "entry": str, "by": str}),
    Table("wanted", {"id": str, "open": int, "body": bytes}, [["open"]]),
    Table("streams", {"name": str, "checkpoint": int}),
]
VERSION = 3
ADVISORIES = subjects.ADVISORIES


class Wanted(msgspec.Struct, frozen=True):
    """A proposal as it lies in the rows. event: as the wire has it."""

    event: bytes
    msg_id: str
    expect: int
    expect_filter: str
    trace: str


class Letters:
    """Keeps the recorded entries, and what still has to be recorded: the checkpoint passes a fraud before its letter
    is in the log, so a restart must find it here. The same holds for the closing of letters that a job's reopening
    answers: it is a proposal until it is read back, whoever dies meanwhile.

    advisories_seq: last message folded of the stream of advisories; it is written in the transaction that writes what
    followed from it.
    """

    filters = ("fraud.detected.*", "task.unresolved.*", "job.reopened.*", "dlq.*.*")

    def __init__(self) -> None:
        self.known: dict[str, int] = {}  # entry → sequence of its record
        self.closed: dict[str, int] = {}  # entry → when
        self.wanted: dict[str, Append] = {}  # by key(): what is to be appended and was not read back
        self.advisories_seq = 0
        self._given_up: dict[str, set[str]] = {}  # job → its open letters
        self._reopened: dict[str, tuple[int, str, str]] = {}  # job → (sequence, entry, by) of its latest reopening
        self._undelivered: dict[str, str] = {}  # consumer and message → latest letter about them
        self._rows: dict[str, dict[str, Sequence[Any]]] = {}
        self._touched: set[str] = set()

    def load(self, projection: Projection) -> None:
        for entry, at_ms in projection.rows("SELECT id, at_ms FROM closings"):
            self.closed[entry] = at_ms
        for entry, cause, about, seq in projection.rows("SELECT id, cause, about, seq FROM entries ORDER BY seq"):
            self._remember(entry, cause, about, seq)
        for job, seq, entry, by in projection.rows("SELECT job, seq, entry, by FROM reopened"):
            self._reopened[job] = (seq, entry, by)
        for key, body in projection.rows("SELECT id, body FROM wanted WHERE open = 1 ORDER BY id"):
            kept = msgspec.msgpack.decode(body, type=Wanted)
            event = ev.decode(kept.event)
            self.wanted[key] = Append(event, kept.msg_id, kept.expect, kept.expect_filter, kept.trace)
            if isinstance(event, ev.DlqRecorded) and event.cause == "max-deliveries":
                self._undelivered[about_of(event)] = event.entry
        for (seq,) in projection.rows("SELECT checkpoint FROM streams WHERE name = ?", (ADVISORIES,)):
            self.advisories_seq = seq

    def evolve(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ev.FraudDetected):
            self._fraud(event, recorded)
        elif isinstance(event, ev.TaskUnresolved):
            # the rest of the evidence is the task's history, which is gathered when the letter is written
            evidence = {"task": event.task, "job": event.job, "why": event.cause, "trace": recorded.trace}
            self._want(f"task-{event.task}", "unresolved", recorded.subject, recorded.seq, evidence, recorded.trace)
        elif isinstance(event, ev.JobReopened):
            self._job_reopened(event, recorded)
        elif isinstance(event, ev.DlqRecorded):
            self._recorded(event, recorded)
        elif isinstance(event, ev.DlqReplayed):
            self._close(event.entry, "replayed", event.by, event.outcome, recorded)
        elif isinstance(event, ev.DlqDiscarded):
            self._close(event.entry, "discarded", event.by, event.reason, recorded)

    def evolve_advisory(self, recorded: Recorded) -> None:
        """A message of the stream of advisories. Call it only when the log has been read to its end: what the log says
        of earlier letters decides whether this is news."""
        self.advisories_seq = recorded.seq
        self._row("streams", ADVISORIES, recorded.seq)
        advisory = advisory_of(recorded.payload)
        if advisory is None or advisory.stream != subjects.STREAM:
            return
        before = self._undelivered.get(advisory.about)
        if before is not None and self.closed.get(before, recorded.at_ms) >= recorded.at_ms:
            return  # known already; only after that letter was closed is it a failure of its own
        self._want(advisory.entry, "max-deliveries", "", advisory.stream_seq, _evidence(advisory), "")
        self._undelivered[advisory.about] = advisory.entry

    def rows(self) -> dict[str, list[Sequence[Any]]]:
        for key in self._touched:
            item = self.wanted.get(key)
            self._row("wanted", key, *((1, _kept(item)) if item is not None else (0, b"")))
        self._touched = set()
        rows, self._rows = self._rows, {}
        return {table: list(found.values()) for table, found in rows.items()}

    # -- what becomes a letter ------------------------------------------------------------------------------------

    def _fraud(self, event: ev.FraudDetected, recorded: Recorded) -> None:
        evidence = {
            "task": event.task,
            "job": event.job,
            "worker": event.worker,
            "name": event.agent,
            "lease": event.lease,
            "digest": event.digest,
            "expected": event.expected,
            "method": event.method,
            "row": str(event.row),
            "rounds": str(event.rounds),
            "trace": recorded.trace,
        }
        if not event.expected:
            del evidence["expected"]  # an audit proves bytes wrong without knowing the right ones
        self._want(f"fraud-{event.lease}", "fraud", recorded.subject, recorded.seq, evidence, recorded.trace)

    def _want(self, entry: str, cause: str, subject: str, seq: int, evidence: dict[str, str], trace: str) -> None:
        if entry not in self.known and entry not in self.wanted:
            self._propose(ev.DlqRecorded(entry, cause, subject, seq, evidence), f"dlq/{entry}", 0, trace)

    # -- what closes one ------------------------------------------------------------------------------------------

    def _job_reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        """All missing tiles are tasks again, so all letters about the job's tasks are answered, not only the one whose
        replay this is."""
        self._reopened[event.job] = (recorded.seq, event.entry, event.by)
        self._row("reopened", event.job, recorded.seq, event.entry, event.by)
        for entry in sorted(self._given_up.get(event.job, ())):
            self._want_closed(entry, event.job, recorded.trace)

    def _want_closed(self, entry: str, job: str, trace: str) -> None:
        _, through, by = self._reopened[job]
        outcome = f"job {job} goes on" + ("" if entry == through else f" (through {through})")
        # an operator may have closed it meanwhile: then this is refused, and what he did is read back
        self._propose(ev.DlqReplayed(entry, by, outcome), f"replayed/{entry}", self.known[entry], trace)

    # -- shared ---------------------------------------------------------------------------------------------------

    def _recorded(self, event: ev.DlqRecorded, recorded: Recorded) -> None:
        about = about_of(event)
        self._settle(event.entry)
        body = msgspec.json.encode({"subject": event.subject_of, "seq": event.seq_of, "evidence": event.evidence})
        self._row("entries", event.entry, event.cause, about, recorded.seq, recorded.at_ms, body)
        self._remember(event.entry, event.cause, about, recorded.seq)
        reopened = self._reopened.get(about)
        if reopened is not None and event.entry in self._given_up.get(about, ()) and event.seq_of < reopened[0]:
            self._want_closed(event.entry, about, recorded.trace)  # the job went on before the letter was written

    def _remember(self, entry: str, cause: str, about: str, seq: int) -> None:
        self.known[entry] = seq
        if cause == "unresolved" and entry not in self.closed:
            self._given_up.setdefault(about, set()).add(entry)
        elif cause == "max-deliveries":
            self._undelivered[about] = entry

    def _close(self, entry: str, state: str, by: str, outcome: str, recorded: Recorded) -> None:
        if entry in self.closed:
            return
        self.closed[entry] = recorded.at_ms
        self._row("closings", entry, state, by, recorded.at_ms, outcome)
        self._settle(f"replayed/{entry}")
        for job in [job for job, entries in self._given_up.items() if entry in entries]:
            self._given_up[job].discard(entry)
            if not self._given_up[job]:
                del self._given_up[job]

    def _propose(self, event: ev.DlqRecorded | ev.DlqReplayed, msg_id: str, expect: int, trace: str) -> None:
        """Once for each letter: what it expects of `dlq.*.<entry>` makes every other try a conflict."""
        filtered = subjects.of_entity("dlq", event.entry)
        self.wanted[key(event)] = Append(event, msg_id, expect, filtered, trace)
        self._touched.add(key(event))

    def _settle(self, wanted: str) -> None:
        """Read back, whether we proposed it or somebody else did: the row says so in either case, as in a rebuild."""
        self.wanted.pop(wanted, None)
        self._touched.add(wanted)

    def _row(self, table: str, *values: Any) -> None:
        self._rows.setdefault(table, {})[values[0]] = values


def key(event: Any) -> str:
    """What a proposal is known by until it is read back."""
    return f"replayed/{event.entry}" if isinstance(event, ev.DlqReplayed) else event.entry


def about_of(event: ev.DlqRecorded) -> str:
    """What connects letters: the job of a task given up; consumer and message of a delivery given up."""
    if event.cause == "unresolved":
        return event.evidence.get("job", "")
    if event.cause == "max-deliveries":
        return "/".join(event.evidence.get(name, "") for name in ("stream", "consumer", "stream_seq"))
    return ""


def _evidence(advisory: Advisory) -> dict[str, str]:
    return {
        "stream": advisory.stream,
        "consumer": advisory.consumer,
        "stream_seq": str(advisory.stream_seq),
        "deliveries": str(advisory.deliveries),
        "why": advisory.why,
    }


def _kept(item: Append) -> bytes:
    kept = Wanted(ev.encode(item.event), item.msg_id, item.expect or 0, item.expect_filter, item.trace)
    return msgspec.msgpack.encode(kept)
