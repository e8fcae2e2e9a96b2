"""Trust and reliability as the gateway shows them, and malformed results that cost a lease once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mesh_events import JOB, created, joined, matmul, submitted, tiered
from test_views_folds import BOTTOM, TOP, Given, verified

from shardy_common.wire import events as ev
from shardy_common.wire import merkle
from shardy_gateway import jobs
from shardy_gateway.hub import Hub
from shardy_gateway.lookups import fraud_page
from shardy_gateway.views import Views


@pytest.fixture
def given(tmp_path: Path) -> Iterator[Given]:
    given = Given(
        tmp_path / "g.db",
        submitted(matmul()),
        *(e for w in "ab" for e in (joined(w), tiered(w))),
        created("t0", TOP, "a", "b"),
        created("t4", BOTTOM, "a", "b"),
    )
    yield given
    given.projection.close()


def shown(views: Views, worker: str) -> dict[str, Any]:
    return jobs.show_reputation(views.reputations.of(worker))


def test_who_never_did_anything_is_on_probation(given: Given) -> None:
    it = shown(given.views, "a")
    assert it["trust"]["probation"] and it["trust"]["replication_probability"] == 1.0
    assert it["record"] == {"accepted": 0, "late": 0, "lost": 0, "failed": 0, "malformed": 0}


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        (verified("t0", TOP, "a"), "accepted"),
        (ev.TaskExpired("t0", JOB, ["t0-0"], "deadline"), "late"),
        (ev.TaskExpired("t0", JOB, ["t0-0"], "lost"), "lost"),
        (ev.TaskExpired("t0", JOB, ["t0-0"], "banned"), ""),
        (ev.TaskExpired("t9", JOB, ["t9-0"], "deadline"), ""),
        (ev.ResultFailed("t0", JOB, "t0-0", "a", "oom", ""), "failed"),
        (ev.ResultFailed("t0", JOB, "t0-0", "a", "malformed", ""), "malformed"),
    ],
)
def test_each_end_of_a_lease_counts_apart_and_none_is_a_fault(given: Given, event: ev.Event, counted: str) -> None:
    given.then(event)
    record = shown(given.views, "a")["record"]
    assert {name for name, n in record.items() if n} == ({counted} if counted else set())
    assert shown(given.views, "a")["trust"]["faults"] == 0 and not given.views.workers["a"].banned
    assert not any(shown(given.views, "b")["record"].values())


def test_checked_and_trusted_results_are_told_apart(given: Given) -> None:
    given.then(verified("t0", TOP, "a", "b"), ev.TaskVerified("t4", JOB, BOTTOM, "aa", 64, ["a"], "trust", 0, 96))
    trust = shown(given.views, "a")["trust"]
    assert (trust["checked_tasks"], trust["checked_ops"], trust["alone_tasks"], trust["exposure_ops"]) == (1, 96, 1, 96)
    assert shown(given.views, "a")["record"]["accepted"] == 2
    given.then(ev.TaskVerified("t4", JOB, BOTTOM, "aa", 64, ["a"], "trust", 0, 96))
    assert shown(given.views, "a")["trust"]["alone_tasks"] == 1, "a verdict on a task that had ended is used by nobody"


def test_penalties_come_with_their_evidence(given: Given) -> None:
    given.then(ev.FraudDetected("t0", JOB, "a", "t0-0", "bb", "audit", 3, 2, "agent a", "cc"))
    (fraud,) = fraud_page(given.views, 0, 10, "a")
    assert fraud_page(given.views, 0, 10, "b") == []
    assert (jobs.show_fraud(fraud)["expected"], jobs.show_fraud(fraud)["row"]) == ("cc", 3)
    assert shown(given.views, "a")["trust"]["faults"] == 1 and shown(given.views, "a")["trust"]["probation"]


def test_a_restart_and_a_new_session_change_nothing(given: Given) -> None:
    given.then(verified("t0", TOP, "a", "b"), ev.TaskExpired("t4", JOB, ["t4-0"], "deadline"), joined("a", "s9"))
    before = shown(given.views, "a")
    again = Views()
    again.load(given.projection)
    assert shown(again, "a") == before and before["record"]["late"] == 1 and before["record"]["accepted"] == 1


KEY = Ed25519PrivateKey.generate()


class Socket(SimpleNamespace):
    """What the hub needs of a session."""

    def send(self, header: dict[str, Any], _segments: Any = None) -> None:
        self.sent.append(header)


def hub_of(given: Given) -> tuple[Hub, Socket]:
    blobs = SimpleNamespace(size=lambda _digest: None)
    hub = Hub(given.views, SimpleNamespace(on_break=[]), blobs)  # type: ignore[arg-type]
    return hub, Socket(worker="a", id="s-a", uploads={}, sent=[], key=KEY.public_key().public_bytes_raw())


def signed(*results: dict[str, Any]) -> dict[str, Any]:
    leaves = [merkle.leaf(result["lease"], result["digest"], result["len"]) for result in results]
    return {"results": list(results), "sig": KEY.sign(merkle.RESULTS_TAG + merkle.root(leaves))}


def test_a_malformed_result_costs_its_lease_once(given: Given) -> None:
    async def run() -> None:
        hub, session = hub_of(given)
        bad = {"lease": "t0-0", "digest": b"x" * 32, "len": 5, "s": 0}
        for _ in range(3):
            hub.take_results(session, signed(bad, bad), [memoryview(b"12345")])  # type: ignore[arg-type]
        assert session.sent[0] == {"t": "ack", "acks": [["t0-0", "malformed"]] * 2}
        ((_, queued, _),) = hub.inbox.take(10, 1 << 20)
        assert queued.event == ev.ResultFailed("t0", JOB, "t0-0", "a", "malformed", "")
        other = {**bad, "lease": "t4-0"}
        hub.take_results(session, signed(other), [memoryview(b"12345")])  # type: ignore[arg-type]
        assert hub.queued == 2

    asyncio.run(run())


@pytest.mark.parametrize("lease_id", ["t0-1", "t9-0", "nothing"])
def test_what_is_not_its_lease_is_not_counted(given: Given, lease_id: str) -> None:
    async def run() -> None:
        hub, session = hub_of(given)
        hub.take_results(session, signed({"lease": lease_id, "digest": bytes(32), "len": 1}), [])  # type: ignore[arg-type]
        assert not hub.queued and session.sent[0]["acks"][0][1] == "unknown"

    asyncio.run(run())


def test_only_the_gateway_says_malformed(given: Given) -> None:
    async def run() -> None:
        hub, session = hub_of(given)
        hub.take_failed(session, {"lease": "t0-0", "code": "malformed"})  # type: ignore[arg-type]
        ((_, queued, _),) = hub.inbox.take(10, 1 << 20)
        assert queued.event.code == "internal"

    asyncio.run(run())
