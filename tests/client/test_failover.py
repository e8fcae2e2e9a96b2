"""Two gateways of one mesh, of which one breaks: jobs go on, and none is made twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from breaker import Breaker
from fake_api import KEY, FakeApi, Problem

from shardy_client import JobCancelled, Mesh, MeshUnreachable, Patience, Progress, Refused
from shardy_client.transport import gateways

RNG = np.random.default_rng(3)
A, B = RNG.integers(-128, 128, (4, 6), np.int8), RNG.integers(-128, 128, (6, 5), np.int8)
C = A.astype(np.int32) @ B.astype(np.int32)
QUICK = Patience(pause_s=0.01, pause_s_max=0.05, lost_s=5.0)


@pytest.fixture
def first(api: FakeApi) -> Iterator[Breaker]:
    breaker = Breaker(api.url)
    yield breaker
    breaker.down()


@pytest.fixture
def two(api: FakeApi, first: Breaker) -> Iterator[Mesh]:
    """A mesh behind a gateway that may break, and one that does not."""
    with Mesh([first.url, api.url], KEY, patience=QUICK) as mesh:
        yield mesh


def test_addresses_come_as_a_list_or_with_commas(api: FakeApi, first: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
    first.down()
    monkeypatch.setenv("SHARDY_URL", f"{first.url}, {api.url}/")
    with Mesh(key=KEY, patience=QUICK) as mesh:
        assert np.array_equal(mesh.matmul(A, B), C)
    assert gateways("http://a, http://b/,http://a") == ("http://a", "http://b")


def test_a_gateway_that_is_gone_is_left(api: FakeApi, first: Breaker, two: Mesh) -> None:
    assert np.array_equal(two.matmul(A, B), C)
    first.down()
    before = first.connections
    for _ in range(2):
        assert np.array_equal(two.matmul(A, B), C)
    first.up()
    two.jobs()
    assert first.connections == before, "the gateway that works stays in use"


def test_a_gateway_that_dies_in_the_middle_of_a_job(api: FakeApi, first: Breaker, two: Mesh) -> None:
    api.steps = 10_000
    job = two.submit(A, B)
    seen: list[Progress] = []
    for now in job:
        seen.append(now)
        if len(seen) == 2:
            first.down()
            api.jobs[job.id]["left"] = 5
    assert seen[-1].state == "completed"
    assert np.array_equal(job.result(), C) and len(api.jobs) == 1


def test_a_lost_answer_makes_no_second_job(api: FakeApi, first: Breaker, two: Mesh) -> None:
    first.before_answer = lambda data: b"201 Created" in data
    job = two.submit(A, B)
    assert np.array_equal(job.result(), C)
    assert [method for method, path in api.requests if path == "/v1/jobs"] == ["POST", "POST"]
    assert len(api.jobs) == 1 and len(api.idempotent) == 1


def test_a_lost_answer_to_cancel_is_no_refusal(api: FakeApi, first: Breaker, two: Mesh) -> None:
    api.steps = 10_000
    job = two.submit(A, B)
    first.before_answer = lambda data: b"cancelled" in data
    assert job.cancel() and job.cancelled()
    with pytest.raises(JobCancelled):
        job.result()


def test_a_gateway_that_takes_over_may_know_of_a_job_a_moment_later(api: FakeApi, first: Breaker, two: Mesh) -> None:
    job = two.submit(A, B)
    unknown = Problem(404, "you have no job of this id")
    api.refusals = [unknown]
    with pytest.raises(Refused, match="no job"):
        job.status()
    first.down()
    two.jobs()
    api.refusals = [unknown, unknown]
    assert job.status()["id"] == job.id
    api.refusals = [unknown] * 9
    with pytest.raises(Refused, match="no job"):
        job.status()


def test_a_broken_download_starts_again(api: FakeApi, first: Breaker, two: Mesh) -> None:
    job = two.submit(A, B)
    job.wait()
    halves = iter([True, False])
    first.before_answer = lambda data: b"NUMPY" in data and next(halves)
    assert np.array_equal(job.result(), C)


def test_busy_gateways_are_asked_again(api: FakeApi, two: Mesh) -> None:
    api.refusals = [Problem(503, "the log is away", headers={"Retry-After": "0"}) for _ in range(3)]
    assert np.array_equal(two.matmul(A, B), C)
    api.refusals = [Problem(429, "slower", headers={"Retry-After": "0.05"}) for _ in range(2)]
    started = time.monotonic()
    assert two.jobs()["jobs"]
    assert time.monotonic() - started >= 0.1


def test_an_idempotency_key_of_ones_own(api: FakeApi, two: Mesh) -> None:
    jobs = {two.submit(A, B, idempotency_key="order-7").id for _ in range(2)}
    assert len(jobs) == 1
    with pytest.raises(Refused, match="another job"):
        two.submit(B.T.copy(), A.T.copy(), idempotency_key="order-7")


def test_a_long_retry_after_is_the_callers_matter(api: FakeApi, two: Mesh) -> None:
    api.refuse = Problem(429, "you are over your quota", headers={"Retry-After": "3600"})
    with pytest.raises(Refused, match=r"over your quota .*3600 s") as caught:
        two.jobs()
    assert caught.value.retry_after_s == 3600 and len(api.requests) == 1


def test_writes_that_are_not_safe_twice_are_sent_once(api: FakeApi, first: Breaker) -> None:
    from fake_api import OPERATOR

    with Mesh([first.url, api.url], OPERATOR, patience=QUICK) as mesh:
        first.before_answer = lambda data: b"201 Created" in data
        with pytest.raises(MeshUnreachable, match="broke"):
            mesh.issue_key("mine")
        assert len(api.operating.keys) == 1
        first.before_answer = lambda data: False
        first.down()
        assert mesh.issue_key("mine")["id"] == "k2", "nothing was sent to a gateway that refuses connections"


def test_a_rotation_whose_answer_was_lost_is_done(api: FakeApi, first: Breaker) -> None:
    from fake_api import OPERATOR

    with Mesh([first.url, api.url], OPERATOR, patience=QUICK) as mesh:
        first.before_answer = lambda data: b"grace_until_ms" in data
        done = mesh.rotate_verifier("product", "v2", grace_s=60)
        assert (done["version"], done["former"]) == ("v2", None), "the earlier try knew the former one"
        assert mesh.verifier("v2")["status"] == "active"
        with pytest.raises(Refused, match="active already"):
            mesh.rotate_verifier("product", "v2")
        first.before_answer = lambda data: b"leaked" in data
        assert mesh.revoke_verifier("v2", "leaked", "v1")["status"] == "revoked"
        assert [v["version"] for v in mesh.verifiers()["verifiers"] if v["status"] == "active"] == ["v1"]


def test_one_gateway_that_comes_back_is_waited_for(api: FakeApi, first: Breaker) -> None:
    with Mesh(first.url, KEY, patience=QUICK) as mesh:
        job = mesh.submit(A, B)
        first.down()
        threading.Timer(0.3, first.up).start()
        assert np.array_equal(job.result(timeout=10), C)
        first.down()
        stranger = Mesh(first.url, KEY, patience=QUICK)
        with pytest.raises(MeshUnreachable, match="shardy up"):
            stranger.jobs()
        stranger.close()
