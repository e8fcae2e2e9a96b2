"""Making a consumer of the log again, from a message on.

A consumer's beginning cannot be changed, so it is deleted and made anew. Between the two it is nowhere, and a gateway
may die there: before it is deleted, its configuration is kept in a second consumer (a note: nobody reads from it, and
the server removes it when it has lain for NOTE_S). Whoever tries again finds the consumer or the note, and goes on.
"""

from __future__ import annotations

import json
from typing import Any

from nats.errors import Error as NatsError

from shardy_common.errors import Refused, Transient
from shardy_common.log import JetStreamLog
from shardy_gateway.replays import from_message, refused

NOTE_S = 24 * 3600
_NOTED = "shardy.config"
_ABSENT = (10014, 10059)  # no such consumer; no such stream


async def restart(log: JetStreamLog, consumer: str, seq: int, entry: str) -> None:
    """Repeating any step changes nothing but that messages are delivered once more, which handlers must bear."""
    note = f"note-{entry}"
    config = await _config(log, consumer)
    noted = await _config(log, note)
    if noted is not None:  # an earlier try got at least so far
        config = json.loads(noted["metadata"][_NOTED])
    if config is None:
        raise refused(f"the consumer {consumer} of the stream {log.stream} exists no longer: discard the letter")
    if noted is None:
        await _create(log, note, _note(note, config))
    await _ask(log, f"DELETE.{log.stream}.{consumer}", b"")
    await _create(log, consumer, from_message(config, seq))


async def forget(log: JetStreamLog, entry: str) -> None:
    """Remove the note, once the letter is closed."""
    await _ask(log, f"DELETE.{log.stream}.note-{entry}", b"")


def _note(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "durable_name": name,
        "deliver_policy": "new",
        "ack_policy": "none",
        "filter_subject": "mesh.noted.nothing",
        "inactive_threshold": NOTE_S * 1_000_000_000,
        "metadata": {_NOTED: json.dumps(config)},
    }


async def _config(log: JetStreamLog, consumer: str) -> dict[str, Any] | None:
    answer = await _ask(log, f"INFO.{log.stream}.{consumer}", b"")
    return answer.get("config")


async def _create(log: JetStreamLog, consumer: str, config: dict[str, Any]) -> None:
    request = {"stream_name": log.stream, "config": config, "action": ""}
    verb = "DURABLE.CREATE" if config.get("durable_name") else "CREATE"
    await _ask(log, f"{verb}.{log.stream}.{consumer}", json.dumps(request).encode())


async def _ask(log: JetStreamLog, what: str, payload: bytes) -> dict[str, Any]:
    """The server's answer; {} when there is no such consumer."""
    try:
        reply = await log.client.request(f"$JS.API.CONSUMER.{what}", payload, timeout=5)
    except (NatsError, TimeoutError, OSError):
        raise Transient("the event log does not answer; try again") from None
    answer: dict[str, Any] = json.loads(reply.data)
    error = answer.get("error")
    if error is None:
        return answer
    if error.get("err_code") in _ABSENT:
        return {}
    if error.get("code") == 503:
        raise Transient("the event log has no leader just now; try again")
    raise Refused(f"the log refused: {error.get('description')}", status=409, title="Cannot be replayed")
