"""What the replay of a dead letter does, by cause: decisions on what the gateway knows. No clock, randomness or I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from blake3 import blake3

from shardy_common import ids, kinds
from shardy_common.errors import Refused
from shardy_common.log import Recorded
from shardy_common.wire import events as ev
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile
from shardy_gateway.letters import Letter
from shardy_gateway.shapes import JobView, TaskView

REOPENED_TASKS_MAX = 8_000  # all of them stand in one event, and an event has at most 1 MiB
REQUESTER = "mesh"


def refused(detail: str) -> Refused:
    return Refused(detail, status=409, title="Cannot be replayed")


# -- unresolved: the job goes on --------------------------------------------------------------------------------------


def reopening(job: JobView, tasks: Sequence[TaskView], entry: str, by: str, tag: Callable[[], int]) -> ev.JobReopened:
    """The failed job's missing tiles as tasks again. tag: 24 random bits for each task id."""
    if job.state != "failed":
        raise refused(f"job {job.id} is {job.state}: only a failed job can go on")
    if job.spec.policy == kinds.CANARY:
        raise refused(f"job {job.id} was a test of a worker, whose answer is forgotten: discard the letter")
    missing = missing_tiles(tasks)
    if len(missing) > REOPENED_TASKS_MAX:
        raise refused(
            f"job {job.id} misses {len(missing)} tiles: at most {REOPENED_TASKS_MAX} can be made tasks again at once; "
            "submit the job anew, and discard this letter"
        )
    if job.cells_done + sum(tile.cells for tile in missing) != _carved(job):
        raise AssertionError(f"the tiles of job {job.id} do not cover what was carved of it")
    return ev.JobReopened(
        job.id,
        job.spec,
        job.requester,
        job.created_ms,
        job.cells_done,
        job.tasks_verified,
        job.cursor,
        [(ids.task_id(job.id, tile.col0, tile.row0, tag()), tile) for tile in missing],
        entry,
        by,
    )


def missing_tiles(tasks: Sequence[TaskView]) -> list[Tile]:
    """Tiles without a verified result, in the order of the rows. A job that went on before has several tasks for one
    tile; what was never carved is no task, and the cursor tells of it."""
    done = {task.tile for task in tasks if task.digest}
    missing = {task.tile for task in tasks} - done
    return sorted(missing, key=lambda tile: (tile.col0, tile.row0))


def _carved(job: JobView) -> int:
    """Cells before the cursor."""
    rows, cursor = kinds.KINDS[job.spec.kind].shape(job.spec)[0], job.cursor
    return cursor.col0 * rows + cursor.row0 * cursor.band_cols


# -- fraud: the task is run again -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes of an operand that become a blob of their own."""

    name: str
    digest: str
    offset: int
    length: int
    dtype: str
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class Rerun:
    """A job for one task's tile. lead_rows, lead_cols: rows and columns before the tile that only warm its EMA up."""

    job: str
    cuts: list[Cut]
    spec: JobSpec
    lead_rows: int
    lead_cols: int

    def submitted(self, digests: dict[str, str]) -> ev.JobSubmitted:
        """digests: of the cut blobs, by operand."""
        operands = {cut.name: Operand(digests[cut.name], cut.dtype, cut.rows, cut.cols) for cut in self.cuts}
        return ev.JobSubmitted(
            self.job, kinds.checked(msgspec.structs.replace(self.spec, operands=operands)), REQUESTER
        )


def rerun(letter: Letter, job: JobView | None, task: TaskView | None) -> Rerun:
    """The task as a job of its own. Its id follows from the letter: whoever tries again means the same job."""
    if job is None or task is None:
        raise refused("the task of this letter is not known to this mesh: discard the letter")
    spec, tile = job.spec, task.tile
    lead_rows = lead_of(spec.pre, tile.row0)
    ranges = {"a": (tile.row0, tile.rows), "b": (tile.col0, tile.cols), "x": (tile.row0, tile.rows)}
    cuts = []
    for name, operand in spec.operands.items():
        start, count = ranges[name]
        lead = lead_of(spec.pre, start)
        width = operand.cols * kinds.ITEM_BYTES[operand.dtype]
        cuts.append(
            Cut(
                name,
                operand.digest,
                (start - lead) * width,
                (count + lead) * width,
                operand.dtype,
                count + lead,
                operand.cols,
            )
        )
    policy = "audit" if kinds.KINDS[spec.kind].auditable else "quorum"
    again = JobSpec(
        spec.kind,
        spec.operands,
        policy,
        spec.redundancy,
        spec.audit_rounds,
        f"replay of dead letter {letter.entry}",
        spec.pre,
    )
    lead_cols = lead_of(spec.pre, tile.col0) if "b" in spec.operands else 0
    job_id = ids.new_job_id(letter.at_ms, blake3(letter.entry.encode()).digest()[:5])
    return Rerun(job_id, cuts, again, lead_rows, lead_cols)


def lead_of(pre: Pre | None, start: int) -> int:
    """Rows to take along before row `start`, so that every row from there on comes out as in the whole operand.

    A segment of the EMA runs through warm_rows rows before it. Whole segments are taken along, as many as hold those
    rows (or all there are), so segments begin where they began; what comes out for the rows taken along is not meant.
    """
    if pre is None or pre.ema_axis != 0 or pre.warm_rows == 0:
        return 0
    return min(start, -(-pre.warm_rows // pre.segment_rows) * pre.segment_rows)


def rerun_outcome(again: Rerun, task: TaskView, undecided: bool) -> str:
    words = f"task {task.id} is run again as job {again.job}"
    if again.lead_rows or again.lead_cols:
        words += f" (its tile begins at row {again.lead_rows}, column {again.lead_cols} of that result)"
    if undecided:
        words += f"; job {task.job} is still undecided on the task itself"
    return words


# -- poison: the event is read again ----------------------------------------------------------------------------------


def reread(letter: Letter, recorded: Recorded | None) -> ev.Event:
    """The event that this version makes of the bytes, or Refused with the decoder's words."""
    if recorded is None:
        raise refused(f"message {letter.seq} is in the log no longer: discard the letter")
    if recorded.event is None:
        raise refused(f"this version cannot decode message {letter.seq} either: {recorded.error}")
    if recorded.event.subject != recorded.subject:
        raise refused(
            f"message {letter.seq} stands on {recorded.subject} and says that it belongs on {recorded.event.subject}: "
            "it was written by hand or by a broken program; discard the letter"
        )
    return recorded.event


# -- max-deliveries: the consumer is made again -----------------------------------------------------------------------


def from_message(config: dict[str, Any], seq: int) -> dict[str, Any]:
    """A consumer's configuration with another beginning. What the server adds by itself is left out."""
    kept = {name: value for name, value in config.items() if name not in ("opt_start_time", "pause_until")}
    return {**kept, "deliver_policy": "by_start_sequence", "opt_start_seq": seq}
