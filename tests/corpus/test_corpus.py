"""Logs that earlier versions wrote are read for ever: decoded, and folded by every service, to what happened then."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from record import BYTES_MAX, facts
from replayed import SERVICES

from shardy_common.log import Projection, Recorded
from shardy_common.log.archive_file import Message
from shardy_common.log.packs import unpack
from shardy_common.log.reader import recorded
from shardy_common.wire import events as ev
from shardy_common.wire import subjects

HERE = Path(__file__).parent
ELSEWHERE = {"verifier.registered/1"}  # named its subject by the version, and not by the circuit
NAMES = sorted(path.name.removesuffix(".jsonl.gz") for path in HERE.glob("*.jsonl.gz"))


def told(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return found


def lines_of(name: str) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress((HERE / f"{name}.jsonl.gz").read_bytes()).splitlines()]


def heads(trace: str, msg_id: str) -> str:
    """The message's headers: the oldest events had no trace."""
    return "".join(f"{name}: {value}\r\n" for name, value in (("traceparent", trace), ("Nats-Msg-Id", msg_id)) if value)


def read(name: str) -> list[Recorded]:
    """Through the reader's own decoder, as from the stream."""
    return [event for message in messages(name) for event in unpack(message)]


def messages(name: str) -> list[Recorded]:
    return [
        recorded(
            Message(
                subject.encode(),
                seq,
                at_ms * 1_000_000,
                payload.encode("latin-1"),
                f"NATS/1.0\r\n{heads(trace, msg_id)}\r\n".encode(),
            )
        )
        for seq, subject, at_ms, trace, msg_id, payload in lines_of(name)
    ]


def folded(name: str, service: str, events: list[Recorded], step: int) -> tuple[Any, Projection]:
    """The service's core and projection over the whole log, committed every `step` events."""
    kind = SERVICES[service]
    projection = Projection(":memory:", kind.tables, version=kind.version)
    core = kind.make()
    core.load(projection)
    for start in range(0, len(events), step):
        for event in events[start : start + step]:
            if event.event is not None and subjects.taken(core.filters, event.subject.rpartition(".")[0]):
                core.evolve(event)
        projection.commit(core.rows(), events[min(start + step, len(events)) - 1].seq)
    return core, projection


def test_there_are_logs_of_several_ages_and_they_are_small() -> None:
    assert len(NAMES) >= 3
    assert sum(path.stat().st_size for path in HERE.iterdir() if path.is_file()) < 2 * BYTES_MAX
    seen = Counter[str]()
    for name in NAMES:
        seen.update(told(name)["events"])
    rare = {"task.disputed/1", "result.failed/1"}  # in none of these logs
    assert {str(kind.__struct_config__.tag) for kind in ev.EVENT_TYPES} - set(seen) == rare, "record what is missing"


@pytest.mark.parametrize("name", NAMES)
def test_todays_decoders_read_it(name: str) -> None:
    known = told(name)
    events = messages(name)
    assert [e.seq for e in events if e.event is None] == known["undecodable"]
    tags = Counter(f"{e.event.name}" for e in events if e.event is not None)
    named = Counter[str]()
    for tag, count in known["events"].items():
        named[tag.partition("/")[0]] += count
    assert tags == named
    for event, line in zip(events, lines_of(name), strict=True):
        if event.event is not None:
            assert event.event.subject == event.subject or json.loads(line[5])["e"] in ELSEWHERE
            assert event.trace == line[3]
    assert {key: value for key, value in known.items() if key != "about"} == facts(lines_of(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("service", SERVICES)
def test_every_service_folds_it_to_what_happened(name: str, service: str) -> None:
    known, events = told(name), read(name)
    core, projection = folded(name, service, events, 37)
    assert folded(name, service, events, len(events))[1].checksum() == projection.checksum()
    if service == "gateway":
        ended = dict(projection.rows("SELECT id, state FROM jobs WHERE active = 0"))
        assert ended == known["jobs"]
        tasks = [core.task(task) for (task,) in projection.rows("SELECT id FROM tasks")]
        digests = sorted(f"{task.id} {task.digest}" for task in tasks if task.digest)
        assert len(digests) == known["tasks_verified"]
        assert hashlib.sha256("\n".join(digests).encode()).hexdigest() == known["digests"]
        runs = [core.ceremonies.run(c, r) for c, r in projection.rows("SELECT circuit, run FROM ceremonies")]
        assert len(runs) == known["events"].get("ceremony.started/1", 0)
        assert sum(run.state == "finished" for run in runs) == known["events"].get("ceremony.finished/1", 0)
    elif service == "gossip-bridge":
        digests = sorted(f"{task} {digest}" for task, digest in projection.rows("SELECT task, digest FROM digests"))
        assert hashlib.sha256("\n".join(digests).encode()).hexdigest() == known["digests"]
    elif service in ("matchmaker", "quorum"):
        ended = {job for (job,) in projection.rows("SELECT id FROM jobs WHERE active = 0")}
        assert ended == set(known["jobs"]), service
    elif service == "prover-verifier":
        said = [json.loads(line[5]) for line in lines_of(name) if line[1].startswith("verifier.registered.")]
        assert {event["version"] for event in said} == {v for (v,) in projection.rows("SELECT version FROM verifiers")}
    elif service == "dlq":
        letters = sum(count for tag, count in known["events"].items() if tag.startswith("dlq.recorded/"))
        assert len(projection.rows("SELECT id FROM entries")) == letters


@pytest.mark.parametrize("damage", [('/1"', '/77"'), ('"tile":[', '"tile":["'), ('"task":"', '"tusk":"')])
def test_what_no_decoder_reads_would_be_found(damage: tuple[str, str]) -> None:
    line = next(line for line in lines_of(NAMES[0]) if line[1].startswith("task.verified."))
    headers = b"NATS/1.0\r\n\r\n"
    whole = recorded(Message(line[1].encode(), line[0], line[2], line[5].encode("latin-1"), headers))
    broken = recorded(Message(line[1].encode(), line[0], line[2], line[5].replace(*damage).encode("latin-1"), headers))
    assert whole.event is not None and broken.event is None and broken.error
