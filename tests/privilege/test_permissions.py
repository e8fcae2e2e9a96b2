"""What the log's server lets each role do, on a real one: everything it should, and nothing of the others'."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from guardkit import ANSWER_S, Guarded, Role

from shardy_common import nats_nodes, stack
from shardy_common.log import Append, Appended, JetStreamLog, Unknown, read_all, streams
from shardy_common.log.client import connect
from shardy_common.permissions import EMITS, OPERATOR, READERS_MAX, ROLES, SERVICES, emitters, permissions, reader_name
from shardy_common.wire import events as ev
from shardy_common.wire import subjects

pytestmark = pytest.mark.connected
EVENTS = sorted(event.name for event in ev.EVENT_TYPES)


def test_the_table_names_services_and_events_that_exist() -> None:
    assert set(SERVICES) == set(stack.SERVICES)
    assert {name for events in EMITS.values() for name in events} <= set(EVENTS)
    assert all(emitters(name) for name in EVENTS), "an event that nobody may append"
    assert all(len(set(events)) == len(events) for events in EMITS.values())


@pytest.mark.parametrize("role", ROLES)
def test_no_permission_reaches_into_another_role(role: str) -> None:
    """By the text alone: no subject begins with a wildcard, and a service's name nobody but itself."""
    allowed = permissions(role)
    for subject in (*allowed.publish, *allowed.subscribe):
        assert subject.split(".")[0] not in ("*", ">"), subject
    for other in set(SERVICES) - {role}:
        for subject in allowed.subscribe:
            assert other not in subject.split(".") and f"_INBOX_{other}" not in subject, (role, subject)


@pytest.mark.parametrize("name", SERVICES)
async def test_events_of_each_service(roles: dict[str, Role], name: str) -> None:
    """Every pair of a service and an event: its own are taken by the log, all others are refused."""
    role = roles[name]
    for event in EVENTS:
        subject = f"{event}.by-{name}"
        if event in EMITS[name]:
            ack = await role.ask(subject, {"e": "nothing"})
            assert ack.get("stream") == subjects.STREAM, (event, ack)
        assert await role.refuses(publish=subject) == (event not in EMITS[name]), (name, event)


async def test_the_operator_appends_nothing(roles: dict[str, Role]) -> None:
    for event in EVENTS:
        assert await roles[OPERATOR].refuses(publish=f"{event}.x"), event


@pytest.mark.parametrize("name", SERVICES)
async def test_what_each_service_hears(roles: dict[str, Role], name: str) -> None:
    role = roles[name]
    for own in (f"_INBOX_{name}.abc", f"_INBOX_{name}.>", f"_DELIVER.{name}.abc", f"ctl.{name}.status"):
        assert not await role.refuses(subscribe=own), own
    refused = ["_INBOX.>", "_DELIVER.>", ">", "*.>", "ctl.>", "$SYS.>", "$JS.>", "$JS.EVENT.ADVISORY.>"]
    refused += [f"{entity}.>" for entity in subjects.ENTITIES]  # events come by consumers only
    for other in set(ROLES) - {name}:
        refused += [f"_INBOX_{other}.>", f"_DELIVER.{other}.abc", f"ctl.{other}.status"]
    for subject in refused:
        assert await role.refuses(subscribe=subject), subject


@pytest.mark.parametrize("name", SERVICES)
async def test_what_each_service_says_beside_events(roles: dict[str, Role], name: str) -> None:
    role = roles[name]
    allowed = [f"ctl.{name}.alive", f"_INBOX_{name}.x", f"_INBOX_{OPERATOR}.x", "_INBOX_gateway.x"]
    refused = ["$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "mesh.other", "$JS.API.STREAM.LIST"]
    for other in set(SERVICES) - {name}:
        # for events out of dead letters
        asks = name == "gateway" and other in ("matchmaker", "quorum", "prover-verifier")
        (allowed if asks else refused).append(f"ctl.{other}.again")
        refused += [f"ctl.{other}.{verb}" for verb in ("alive", "rebuild")]
        # a gateway shows how far the others are, and has one fold anew what a dead letter says
        (allowed if name == "gateway" else refused).extend(f"ctl.{other}.{verb}" for verb in ("status", "rebuild.0"))
        refused += [] if other == "gateway" else [f"_INBOX_{other}.x"]
        refused += [f"_DELIVER.{other}.x", f"$JS.FC.EVENTS.{reader_name(other, 0)}.x"]
        if name != "gateway":
            refused += [f"$JS.API.CONSUMER.{v}.EVENTS.{reader_name(other, 0)}" for v in ("CREATE", "DELETE", "INFO")]
    for stream in (subjects.STREAM, subjects.ADVISORIES, "OTHER"):
        verbs = ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN")
        refused += [f"$JS.API.STREAM.{verb}.{stream}" for verb in verbs]
    for subject in allowed:
        assert not await role.refuses(publish=subject), subject
    for subject in refused:
        assert await role.refuses(publish=subject), subject


@pytest.mark.parametrize("name", ROLES)
async def test_each_role_reads_the_log(guarded: Guarded, name: str) -> None:
    """With its own key, through the reader that services have; and closes its consumer behind it."""
    seed = guarded.seed(name)
    log = await asyncio.wait_for(JetStreamLog.open(guarded.node.url, name="t", role=name, seed_file=seed), ANSWER_S)
    reader = log.read([], 0)
    read = [recorded async for recorded in read_all(reader)]
    assert len(read) == await log.last_seq() and reader._consumer.startswith(f"{name}-r")
    await reader.close()
    assert log.client.forbidden == set()
    await log.close()


async def test_more_readers_than_names_wait(guarded: Guarded) -> None:
    """A name that is taken is another reader's: it is left alone, and another name is tried."""
    log = await JetStreamLog.open(
        guarded.node.url, name="t", role="gossip-bridge", seed_file=guarded.seed("gossip-bridge")
    )
    readers = [log.read([], 0) for _ in range(READERS_MAX)]
    for reader in readers:
        async with asyncio.timeout(60):
            while reader._broken:
                await reader.batch(1, 0.01)
    assert len({reader._consumer for reader in readers}) == READERS_MAX
    late = log.read([], 0)
    assert await late.batch(1, 0.5) == [] and late._broken
    await readers[0].close()
    async with asyncio.timeout(60):
        while not await late.batch(1, 0.5):
            pass
    for reader in (*readers[1:], late):
        await reader.close()
    await log.close()


async def test_only_the_operator_manages_streams(roles: dict[str, Role]) -> None:
    operator = roles[OPERATOR]
    info = await operator.ask(f"$JS.API.STREAM.INFO.{subjects.STREAM}")
    assert "error" not in await operator.ask(f"$JS.API.STREAM.UPDATE.{subjects.STREAM}", info["config"])
    assert "error" not in await operator.ask(f"$JS.API.STREAM.PURGE.{subjects.ADVISORIES}")
    assert "error" not in await operator.ask("$JS.API.STREAM.NAMES")
    for subject in ("$SYS.REQ.SERVER.PING", "mesh.other"):
        assert await operator.refuses(publish=subject), subject
    for name in SERVICES:
        assert await operator.refuses(subscribe=f"_INBOX_{name}.>") and await operator.refuses(
            publish=f"_INBOX_{name}.x"
        )
        assert not await operator.refuses(publish=f"ctl.{name}.status")


async def test_a_forbidden_append_is_told_once_and_ends(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """The server answers a forbidden publish with nothing but a line to the connection."""
    log = await JetStreamLog.open(guarded.node.url, name="t", role="quorum", seed_file=guarded.seed("quorum"))
    log.appender._timeout_s = 1.0
    own, theirs = ev.TaskDisputed("t1", "j1", {}, 1), ev.JobFailed("j1", "x")
    with caplog.at_level(logging.ERROR, "shardy.log"):
        for number in range(3):
            async with asyncio.timeout(ANSWER_S):
                mine, refused = await log.append([Append(own, f"a{number}"), Append(theirs, f"b{number}")])
            assert isinstance(mine, Appended)
            assert isinstance(refused, Unknown) and "does not let quorum append job.failed" in refused.detail
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and "job.failed.j1" in told[0] and "quorum" in told[0] and "permissions" in told[0], told
    await log.close()


async def test_a_foreign_key_is_not_let_in(guarded: Guarded, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from shardy_common.nkey import ensure_seed

    ensure_seed(tmp_path / "seed")
    for access in ({"seed_file": tmp_path / "seed"}, {"user": "shardy", "password": "x"}, {}):
        with caplog.at_level(logging.ERROR, "shardy.log"), pytest.raises(Exception, match=r"(?i)authorization"):
            await connect(guarded.node.url, name="t", role="gateway", reconnect=False, **access)
    assert sum("does not let gateway in" in record.getMessage() for record in caplog.records) == 3


@pytest.fixture
def with_password(tmp_path: Path) -> Iterator[str]:
    port = nats_nodes.free_port("127.0.0.1")
    flags = ["--user", "shardy", "--pass", "secret", "-js", "-sd", str(tmp_path), "-l", str(tmp_path / "log")]
    process = subprocess.Popen([nats_nodes.program(), "-a", "127.0.0.1", "-p", str(port), *flags])
    yield f"nats://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


async def test_a_password_for_all_is_taken_where_the_server_asks_for_one(with_password: str) -> None:
    """As before there were keys: whoever comes first makes the streams, and all may say all."""
    for role in ("quorum", "dlq"):
        opening = JetStreamLog.open(with_password, name="t", role=role, user="shardy", password="secret")
        log = await asyncio.wait_for(opening, ANSWER_S)
        await log.ensure_stream(streams.advisories(1))
        (outcome,) = await log.append([Append(ev.JobFailed(f"by-{role}", "x"), role)])
        assert isinstance(outcome, Appended)
        await log.close()
    with pytest.raises(Exception, match=r"(?i)authorization"):
        await connect(with_password, name="t", user="shardy", password="wrong", reconnect=False)


async def test_a_service_waits_for_the_streams_that_the_operator_makes(tmp_path: Path) -> None:
    from shardy_common.make_streams import make

    server = Guarded(tmp_path)
    try:
        opening = asyncio.create_task(
            JetStreamLog.open(server.node.url, name="t", role="dlq", seed_file=server.seed("dlq"))
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(opening), 1.0)
        await asyncio.wait_for(make(server.node.url, 1, seed_file=server.seed(OPERATOR)), ANSWER_S)
        log = await asyncio.wait_for(opening, ANSWER_S)
        assert log.client.forbidden == set(), "it did not try to make them"
        await log.close()
    finally:
        server.stop()
