"""A mesh of honest devices and liars for the suite `trust`: the real rules of matchmaker and quorum, a log in memory.

No storms here (tests/simulation has those): each round the matchmaker lends, every device answers what it holds, the
quorum judges, and what it asks to have examined is told exactly. Canaries are off: the figures are of the policies.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from shardy_common.log import Append, Recorded
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand
from shardy_matchmaker.core import MatchmakerCore
from shardy_matchmaker.decide import Matchmaker
from shardy_quorum.canary import Pacing
from shardy_quorum.core import QuorumCore
from shardy_quorum.state import Examination, Findings

ROUND_MS = 1_000
HELD_MAX = 4  # leases of one device, so that trust is looked at again after a few tasks
REJOIN = 0.2  # chance in each round that a banned liar is back with a new key
RARELY = 0.1  # how often a liar of the way `rarely` lies once it is trusted
SLEEP_TASKS = 25  # a sleeper is right for so many tasks after it joins: past probation, with a budget for one task
K, COLS = 60_000, 16_667  # a task of one row: 2·10⁹ operations, a fifth of a second on a laptop


@dataclass
class Device:
    key: str
    liar: bool
    done: int = 0
    banned: bool = False
    gained: int = 0


@dataclass
class Outcome:
    """tasks: verified; wrong: of them, with a wrong result; answers: computed in all; branded: honest keys named.

    keys: that ever joined; gain: the most that one key got through on trust, against its checked operations.
    """

    tasks: int = 0
    wrong: int = 0
    answers: int = 0
    branded: int = 0
    keys: int = 0
    gain: float = 0.0
    answers_by_round: list[tuple[int, int]] = field(default_factory=list)  # (verified, answers) so far


class LiarsMesh:
    """liars: share of the devices; colluding: all liars give the same wrong bytes. way: always | sleeper (right until
    trusted, then always wrong) | rarely (right until trusted, then wrong now and then) | cunning (only where nobody
    but liars was asked, which they find out from each other)."""

    def __init__(self, seed: int, spec: JobSpec, devices: int, liars: float, colluding: bool, way: str) -> None:
        self.rng = random.Random(seed)
        self.colluding, self.way = colluding, way
        self.now_ms, self.seq = 1_000_000, 0
        self.matchmaker = MatchmakerCore(Matchmaker())
        self.quorum = QuorumCore(pacing=Pacing(every=0))
        self.outcome = Outcome()
        self.devices: dict[str, Device] = {}
        self.held: list[tuple[str, str, str, str]] = []  # task, job, lease, worker
        count = round(devices * liars)
        for i in range(devices):
            self._join(i < count)
        self._record(ev.JobSubmitted("j1", spec, "bench"))

    def run(self) -> Outcome:
        while self.matchmaker.matchmaker.fold.jobs:
            self.now_ms += ROUND_MS
            self._append(self.matchmaker.matchmaker.decide(self.now_ms, self.rng))
            self._answer()
            self._judge()
            self.outcome.answers_by_round.append((self.outcome.tasks, self.outcome.answers))
            for device in [d for d in self.devices.values() if d.banned and self.rng.random() < REJOIN]:
                del self.devices[device.key]
                self._join(True)
            self.matchmaker.rows()
            self.quorum.rows()
        return self.outcome

    def _join(self, liar: bool) -> None:
        self.outcome.keys += 1
        key = f"w{self.outcome.keys:05d}"
        self.devices[key] = Device(key, liar)
        probe = ev.Probe(10.0, 50.0, 4096, "wasm", gateway_ms=1.0)
        self._record(ev.WorkerJoined(key, f"s-{key}", "g", "i", f"at-{key}", "", "", probe))
        self._record(ev.WorkerTiered(key, f"s-{key}", "wasm-laptop", HELD_MAX, 10.0))

    def _answer(self) -> None:
        held, self.held = self.held, []
        self.rng.shuffle(held)
        asked: dict[str, list[str]] = {}
        for task, _, _, worker in held:
            asked.setdefault(task, []).append(worker)
        for task, job, lease, worker in held:
            device = self.devices.get(worker)
            if device is None or device.banned:
                continue
            device.done += 1
            self.outcome.answers += 1
            lies = device.liar and self._lies(device, asked[task])
            digest = ("together" if self.colluding else worker) if lies else "right"
            self._record(ev.ResultSubmitted(task, job, lease, worker, digest, 4 * COLS, 200.0, "wasm"))

    def _lies(self, device: Device, asked: list[str]) -> bool:
        if self.way == "cunning":
            return len(asked) > 1 and all(self.devices[worker].liar for worker in asked if worker in self.devices)
        if self.way == "always":
            return True
        return device.done > SLEEP_TASKS and (self.way == "sleeper" or self.rng.random() < RARELY)

    def _judge(self) -> None:
        for _ in range(100):
            appends, examinations = self.quorum.quorum.decide(self.now_ms)
            self._append(appends)
            for examination in examinations:
                self._append(self.quorum.quorum.judge(self._examined(examination)))
            if not appends and not examinations:
                return
        raise RuntimeError("the quorum does not come to an end")

    def _examined(self, request: Examination) -> Findings:
        """An audit finds every wrong result: what it misses happens once in 2⁶² (tests/quorum/test_auditor.py)."""
        found = Findings(request.task)
        for digest in request.digests:
            if digest == "right":
                found.right.append(digest)
            else:
                found.wrong[digest] = 0
        return found

    def _append(self, items: list[Append]) -> None:
        for item in items:
            self._record(item.event)

    def _record(self, event: ev.Event) -> None:
        self.seq += 1
        recorded = Recorded(self.seq, event.subject, self.now_ms, event)
        self.matchmaker.evolve(recorded)
        self.quorum.evolve(recorded)
        if isinstance(event, (ev.TaskCreated, ev.TaskAssigned)):
            self.held += [(event.task, event.job, lease.id, lease.worker) for lease in event.leases]
        elif isinstance(event, ev.TaskVerified):
            self.outcome.tasks += 1
            if event.digest != "right":
                self._gained(event)
        elif isinstance(event, ev.FraudDetected):
            device = self.devices.get(event.worker)
            if device is not None:
                device.banned = True
                self.outcome.branded += not device.liar

    def _gained(self, event: ev.TaskVerified) -> None:
        self.outcome.wrong += 1
        if event.method == "trust":
            device = self.devices[event.workers[0]]
            device.gained += event.ops
            checked = self.quorum.quorum.book.of(device.key).ops
            self.outcome.gain = max(self.outcome.gain, device.gained / checked)


def job(policy: str, redundancy: int, tasks: int) -> JobSpec:
    operands = {"a": Operand("a" * 64, "int8", tasks, K), "b": Operand("b" * 64, "int8", COLS, K)}
    return JobSpec("matmul", operands, policy, redundancy, task_rows=1)
