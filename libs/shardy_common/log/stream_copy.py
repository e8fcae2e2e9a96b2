"""A stream as one file, and back: JetStream's own snapshots, which keep sequences, times, headers and what was purged.

The server sends chunks and waits for an answer to each, so neither side holds more than a window. A snapshot is one
moment of the stream, taken while it is written to.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from shardy_common.log.client import LogClient

CHUNK_BYTES = 128 * 1024
SILENCE_S = 60.0


class SnapshotError(Exception):
    """A stream could not be copied or put back; the text says why."""


async def take(client: LogClient, stream: str, path: Path) -> dict[str, Any]:
    """Write the stream into a file: {config, state, bytes, blake3}. SnapshotError when the server breaks it off."""
    chunks: asyncio.Queue[tuple[bytes, bytes, bytes | None]] = asyncio.Queue()
    inbox = client.new_inbox()
    subscription = await client.subscribe_raw(
        inbox, lambda _subject, reply, data, headers: chunks.put_nowait((reply, data, headers))
    )
    request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES, "jsck": True}
    digest, size = blake3(), 0
    try:
        answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", request)
        with open(path, "wb") as file:  # noqa: ASYNC230 - a local file, a chunk at a time
            path.chmod(0o600)
            while True:
                try:
                    reply, data, headers = await asyncio.wait_for(chunks.get(), SILENCE_S)
                except TimeoutError:
                    raise SnapshotError(f"the copy of {stream} broke off: nothing came for {SILENCE_S:.0f} s") from None
                if not data:
                    if headers and b" 204" not in headers.split(b"\r\n")[0] and b" 200" not in headers[:16]:
                        said = headers.split(b"\r\n")[0].decode(errors="replace")
                        raise SnapshotError(f"the server broke the copy of {stream} off: {said}")
                    break
                digest.update(data)
                file.write(data)
                size += len(data)
                if reply:
                    await client.publish(reply.decode(), b"")
    finally:
        await client.unsubscribe_raw(subscription)
    return {"config": answer["config"], "state": answer["state"], "bytes": size, "blake3": digest.hexdigest()}


async def put_back(client: LogClient, stream: str, path: Path, taken: dict[str, Any]) -> dict[str, Any]:
    """Make the stream from a snapshot; its state. SnapshotError when it comes out otherwise than it went in."""
    config = {**taken["config"], "num_replicas": 1}
    answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{stream}", {"config": config, "state": taken["state"]})
    subject = str(answer["deliver_subject"])
    with open(path, "rb") as file:  # noqa: ASYNC230 - a local file, a chunk at a time
        while chunk := file.read(CHUNK_BYTES):
            reply = await client.request(subject, chunk, timeout=SILENCE_S)
            if reply.data and "error" in json.loads(reply.data):
                raise SnapshotError(f"the server refused {path}: {json.loads(reply.data)['error'].get('description')}")
    done = json.loads((await client.request(subject, b"", timeout=SILENCE_S)).data)
    if "error" in done:
        raise SnapshotError(f"the server could not restore {path}: {done['error'].get('description')}")
    state: dict[str, Any] = done["state"]
    for name in ("messages", "first_seq", "last_seq", "bytes"):
        # what was appended while the copy was made may be in it: more is right, less is not
        if state.get(name, 0) < taken["state"].get(name, 0):
            raise SnapshotError(
                f"{path} gave {name} {state.get(name)} and not {taken['state'].get(name)}: the copy is incomplete"
            )
    return state


async def _ask(client: LogClient, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.request(subject, json.dumps(body).encode(), timeout=30)
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        raise SnapshotError(f"the log refused: {answer['error'].get('description')}")
    return answer
