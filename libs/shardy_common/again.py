"""An event out of a dead letter is appended once more by the service whose event it is.

A gateway replays a letter of bytes that nobody could read, once a version can. It may append its own events only, so
for others it asks their service, on `ctl.<service>.again`; the service takes the bytes from the log, not from the
question. There is no answer: that it was done is seen in the log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from shardy_common.ids import is_token
from shardy_common.log import Append, JetStreamLog
from shardy_common.permissions import EMITS, again
from shardy_common.wire.events import DlqRecorded, Event
from shardy_common.wire.subjects import subject

ASK_S = 2.0  # how often it is asked again
PATIENCE_S = 10.0
log = logging.getLogger("shardy.again")


def message_id(entry: str) -> str:
    """By which a second try finds what the first has done."""
    return f"replay/{entry}"


async def ask(event_log: JetStreamLog, service: str, entry: str, event: Event, seq: int) -> int | None:
    """Where the event of this letter stands in the log once more; None when the service did not do it in time."""
    question = json.dumps({"entry": entry, "seq": seq}).encode()
    deadline = time.monotonic() + PATIENCE_S
    asked_s = -ASK_S
    while time.monotonic() < deadline:
        if time.monotonic() - asked_s > ASK_S:
            asked_s = time.monotonic()
            await event_log.client.publish(again(service), question)
        await asyncio.sleep(0.05)
        found = await event_log.find(event.subject, seq, message_id(entry))
        if found is not None:
            return found
    return None


async def append_again(event_log: JetStreamLog, service: str, question: dict[str, Any]) -> str:
    """Do it, once, however often it is asked for; why not, or nothing. Only for a message that has a letter saying that
    nobody could read it, that this version can read, and that is an event of this service."""
    entry, seq = question.get("entry"), question.get("seq")
    if not (isinstance(entry, str) and is_token(entry) and isinstance(seq, int) and seq > 0):
        return "the question is malformed"
    letter = await event_log.last(subject("dlq.recorded", entry))
    told = letter.event if letter is not None else None
    if not isinstance(told, DlqRecorded) or (told.cause, told.seq_of) != ("poison", seq):
        return f"no dead letter {entry} says that message {seq} could not be read"
    recorded = await event_log.get(seq)
    event = recorded.event if recorded is not None else None
    if recorded is None or event is None or event.subject != recorded.subject:
        return f"this version cannot read message {seq}"
    if event.name not in EMITS[service]:
        return f"{event.name} is no event of the {service}"
    if await event_log.find(event.subject, seq, message_id(entry)) is None:
        await event_log.append([Append(event, message_id(entry), trace=recorded.trace)])
    return ""
