"""Record the log of a running mesh as a corpus: `python tests/corpus/record.py NAME --data-dir .data`.

Writes NAME.jsonl.gz, a line for each message as it stands in the stream: [seq, subject, Unix milliseconds, traceparent,
message id, payload], and NAME.json with facts. They are read out of the payloads here, by plain JSON, and so do not
depend on the decoders that the test holds to them. A log that tests read must not be large: BYTES_MAX.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import hashlib
import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from shardy_common.log.client import connect

HERE = Path(__file__).parent
BYTES_MAX = 150_000
ENDS = {"job.completed": "completed", "job.failed": "failed", "job.cancelled": "cancelled"}
Line = tuple[int, str, int, str, str, str]


async def read(runtime: dict[str, Any], stream: str) -> list[Line]:
    """Every message of the stream, as bytes: whatever version wrote them. runtime: what the stack says of itself."""
    client = await connect(runtime["nats_url"], name="record", seed_file=Path(runtime["seed_file"]), reconnect=False)
    try:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info(stream)).state
        lines: list[Line] = []
        for seq in range(state.first_seq, state.last_seq + 1):
            reply = await client.request(f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps({"seq": seq}).encode())
            message = json.loads(reply.data)["message"]
            heads = base64.b64decode(message.get("hdrs", "")).decode()
            named = dict(line.split(": ", 1) for line in heads.splitlines() if ": " in line)
            at = datetime.fromisoformat(message["time"][:19] + "+00:00")
            ms = int(at.timestamp()) * 1000 + int((message["time"][20:].rstrip("Z") + "000")[:3])
            payload = base64.b64decode(message.get("data", "")).decode("latin-1")
            lines.append(
                (seq, message["subject"], ms, named.get("traceparent", ""), named.get("Nats-Msg-Id", ""), payload)
            )
        return lines
    finally:
        await client.close()


def facts(lines: list[Line]) -> dict[str, Any]:
    """What happened, by plain JSON. digests: SHA-256 over `task digest` of every verdict, sorted."""
    tags: Counter[str] = Counter()
    jobs: dict[str, str] = {}
    verified: dict[str, str] = {}
    poison = [letter["seq_of"] for letter in _events(lines, "dlq.recorded.") if letter["cause"] == "poison"]
    for seq, subject, _, _, _, payload in lines:
        if seq in poison:  # the services of that time could not read it either
            continue
        event = json.loads(payload.encode("latin-1"))
        tags[event["e"]] += 1
        name = subject.rpartition(".")[0]
        if name in ENDS:
            jobs[event["job"]] = ENDS[name]
        elif name == "job.reopened":
            jobs.pop(event["job"], None)
        elif name == "task.verified":
            verified[event["task"]] = event["digest"]
    text = "\n".join(f"{task} {digest}" for task, digest in sorted(verified.items()))
    return {
        "messages": len(lines),
        "events": dict(sorted(tags.items())),
        "undecodable": sorted(poison),
        "jobs": dict(sorted(jobs.items())),
        "tasks_verified": len(verified),
        "digests": hashlib.sha256(text.encode()).hexdigest(),
    }


def _events(lines: list[Line], prefix: str) -> list[dict[str, Any]]:
    return [
        json.loads(payload.encode("latin-1")) for _, subject, _, _, _, payload in lines if subject.startswith(prefix)
    ]


def main() -> int:
    parse = argparse.ArgumentParser(description="Record the log of a running mesh for the tests.")
    parse.add_argument("name")
    parse.add_argument("--data-dir", type=Path, default=Path(".data"))
    parse.add_argument("--about", default="", help="what is special about this log, in a sentence")
    arguments = parse.parse_args()
    try:
        runtime = json.loads((arguments.data_dir / "runtime.json").read_text())
    except (OSError, ValueError):
        print(f"no running mesh on {arguments.data_dir}: start one with shardy up", file=sys.stderr)
        return 1
    lines = asyncio.run(read(runtime, "EVENTS"))
    text = "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)
    packed = gzip.compress(text.encode(), 9, mtime=0)
    if len(packed) > BYTES_MAX:
        print(f"{len(packed)} bytes are too much: record a mesh that did less than {BYTES_MAX}", file=sys.stderr)
        return 1
    (HERE / f"{arguments.name}.jsonl.gz").write_bytes(packed)
    told = {"about": arguments.about, **facts(lines)}
    (HERE / f"{arguments.name}.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"{arguments.name}: {len(lines)} messages, {len(packed)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
