"""Replaying and closing dead letters. Each replay may be tried again after any of its steps, by anybody: what it leaves
in the log is recognised, and a letter is closed once, because its closing expects the letter to be the last that was
said of it (`dlq.*.<entry>`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from typing import TypeVar

from nats.errors import Error as NatsError

from shardy_common import again
from shardy_common.errors import Refused, Transient
from shardy_common.log import Append, Appended, ArchiveError, Conflict
from shardy_common.permissions import EMITS, emitters
from shardy_common.tracing import child_traceparent
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_gateway import consumers, replays
from shardy_gateway.cutting import cut
from shardy_gateway.letters import Letter
from shardy_gateway.state import GatewayState

TRIES = 5
SEEN_S = 5.0  # how long to wait until this gateway has folded what it appended
FAILING_S = 2.0  # a task's letter is written a moment before its job fails
Read = TypeVar("Read")


def already(letter: Letter) -> Refused:
    detail = f"{letter.entry} is {letter.state} already, by {letter.closed_by}: {letter.outcome}"
    return Refused(detail, status=409, title="Entry closed")


async def replay(state: GatewayState, letter: Letter, by: str) -> tuple[str, str]:
    """(outcome in words, the job that runs because of it or nothing)."""
    if letter.cause == "unresolved":
        return await _reopen(state, letter, by)
    if letter.cause == "fraud":
        return await _run_again(state, letter, by)
    if letter.cause == "poison":
        return await _read_again(state, letter, by), ""
    if letter.cause == "max-deliveries":
        return await _deliver_again(state, letter, by), ""
    if letter.cause == "handler":
        outcome = await state.refolds.folded(letter)
        await _close(state, letter, ev.DlqReplayed(letter.entry, by, outcome))
        return outcome, ""
    raise replays.refused(f"there is no replay for the cause {letter.cause}: discard the letter")


async def discard(state: GatewayState, letter: Letter, by: str, reason: str) -> Letter:
    return await _close(state, letter, ev.DlqDiscarded(letter.entry, by, reason))


async def _reopen(state: GatewayState, letter: Letter, by: str) -> tuple[str, str]:
    """One event makes the job go on, and it expects the job as we saw it: failed. A second operator, or a try after a
    lost answer, meets a job that goes on through this letter. We do not close the letter: the dlq service does when it
    reads the event, which it cannot miss, so a gateway that dies here leaves nothing half done."""
    job_id = letter.evidence.get("job", "")
    item: Append | None = None
    for attempt in range(TRIES):
        job = state.views.job(job_id)
        if job is None:
            raise replays.refused("the job of this letter is not known to this mesh: discard the letter")
        if job.entry == letter.entry and job.state != "failed":
            return f"job {job_id} goes on", job_id
        if not job.ended:
            await state.changed(job_id, FAILING_S, lambda j: j.ended)
            job = state.views.job(job_id) or job
        if item is None or item.expect != job.seq:
            tasks = state.views.tasks_in(job_id)
            event = replays.reopening(job, tasks, letter.entry, by, lambda: secrets.randbits(24))
            only = subjects.of_entity("job", job_id)
            item = Append(event, f"reopen/{letter.entry}/{job.seq}", job.seq, only, job.trace)
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, (Appended, Conflict)):
            seen = job.seq
            await state.changed(job_id, SEEN_S, lambda j, seen=seen: j.seq > seen)
        else:  # it may be there or not: the same again, which is recognised
            await asyncio.sleep(0.2 * 2**attempt)
    raise Transient("the job changed while it was being reopened; ask for the letter again")


async def _run_again(state: GatewayState, letter: Letter, by: str) -> tuple[str, str]:
    """First the blobs, then the job, then the closing. Blobs are named by their bytes and the job by the letter, so a
    second try makes neither twice; a letter is closed only when its job is in the log."""
    evidence = letter.evidence
    job, task = state.views.job(evidence.get("job", "")), state.views.task(evidence.get("task", ""))
    again = replays.rerun(letter, job, task)
    assert task is not None
    digests = await asyncio.to_thread(cut, state.blobs.root, again.cuts)
    item = Append(again.submitted(digests), f"job/{again.job}", 0, trace=child_traceparent(letter.trace))
    await state.append(item)
    outcome = replays.rerun_outcome(again, task, task.id in state.views.tasks)
    await _close(state, letter, ev.DlqReplayed(letter.entry, by, outcome))
    return outcome, again.job


async def _read_again(state: GatewayState, letter: Letter, by: str) -> str:
    """First the event, then the closing. The event is found again by its message id, however long ago it was appended:
    the log's own window for repeats is two minutes."""
    event = replays.reread(letter, await _read(state.log.get(letter.seq)))
    msg_id = again.message_id(letter.entry)
    seq = await _read(state.log.find(event.subject, letter.seq, msg_id))
    if seq is None and event.name not in EMITS["gateway"]:
        seq = await _theirs(state, letter, event)
    elif seq is None:
        item = Append(event, msg_id, trace=letter.trace)
        if isinstance(event, ev.JobSubmitted):  # folded twice it would begin the job anew: only if nothing came after
            item = Append(event, msg_id, letter.seq, subjects.of_entity("job", event.job), letter.trace)
        outcome = (await state.log.append([item]))[0]
        if isinstance(outcome, Conflict):
            raise replays.refused("the job has later events, so others understood its submission: discard the letter")
        if not isinstance(outcome, Appended):
            raise Transient("the event log does not answer; try again", retry_ms=5000)
        seq = outcome.seq
    words = f"read again and appended as message {seq}"
    await _close(state, letter, ev.DlqReplayed(letter.entry, by, words))
    return words


async def _theirs(state: GatewayState, letter: Letter, event: ev.Event) -> int:
    """Another service's event: that service appends it, out of the log."""
    found = emitters(event.name)
    if not found:
        raise replays.refused(f"no service of this version appends {event.name}: discard the letter")
    seq = await _read(again.ask(state.log, found[0], letter.entry, event, letter.seq))
    if seq is None:
        raise Transient(f"the {found[0]} has not appended its event again; see its log, and try again", retry_ms=5000)
    return seq


async def _deliver_again(state: GatewayState, letter: Letter, by: str) -> str:
    """First the consumer, then the closing, then the note of its configuration is removed (consumers.py)."""
    consumer, stream = letter.evidence.get("consumer", ""), letter.evidence.get("stream", "")
    if stream != state.log.stream:
        raise replays.refused(f"the stream {stream} is not the mesh's log")
    await consumers.restart(state.log, consumer, letter.seq, letter.entry)
    words = f"the consumer {consumer} gets message {letter.seq} and all that follow once more"
    await _close(state, letter, ev.DlqReplayed(letter.entry, by, words))
    await consumers.forget(state.log, letter.entry)
    return words


async def _close(state: GatewayState, letter: Letter, event: ev.DlqReplayed | ev.DlqDiscarded) -> Letter:
    """Append the closing, and see whose it is that stands in the log."""
    entry = letter.entry
    said = event.outcome if isinstance(event, ev.DlqReplayed) else event.reason
    msg_id = f"{event.name.partition('.')[2]}/{entry}"
    item = Append(event, msg_id, letter.at, subjects.of_entity("dlq", entry), letter.trace)
    await state.append(item)
    deadline = asyncio.get_running_loop().time() + SEEN_S
    while asyncio.get_running_loop().time() < deadline:
        found = state.views.letters.get(entry)
        if found is not None and found.state != "open":
            if (found.closed_by, found.outcome) != (event.by, said):
                raise already(found)
            return found
        await asyncio.sleep(0.05)
    raise Transient("the closing is recorded but not yet visible here; ask for the letter again")


async def _read(reading: Awaitable[Read]) -> Read:
    try:
        return await reading
    except (NatsError, TimeoutError, OSError):
        raise Transient("the event log does not answer; try again") from None
    except ArchiveError as error:
        raise replays.refused(str(error)) from None
