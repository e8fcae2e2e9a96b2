"""What a gateway lets in, by key and by address; byte ranges as RFC 9110 has them. Pure."""

from __future__ import annotations

import pytest

from shardy_common.errors import Refused
from shardy_gateway.api.blobs import range_of
from shardy_gateway.config import GatewaySettings
from shardy_gateway.gates import HANDSHAKES_MAX, TRIES_PER_LEASE_MAX, Gates


def gates(**settings: float) -> Gates:
    return Gates(GatewaySettings(**settings))  # type: ignore[arg-type]


def test_the_defaults_are_those_that_are_written_down() -> None:
    shown = gates().shown()
    assert shown == {
        "requests_per_s": 200,
        "requests_burst": 1_000,
        "upload_bytes_per_h": 64 << 30,
        "streams_per_key_max": 64,
        "waits_per_key_max": 512,
        "bodies_per_key_max": 64,
        "jobs_per_requester_max": 1_000,
    }
    assert gates().policy == b'"requests";q=200;w=1, "upload";q=68719476736;w=3600'


def test_calls_and_bytes_of_a_key() -> None:
    open_ = gates(requests_per_s=1, requests_burst=2, upload_bytes_per_h=3_600)
    assert [open_.call("k", 0).ok for _ in range(3)] == [True, True, False]
    assert open_.call("other", 0).ok and open_.call("k", 1).ok
    open_.upload("k", 3_600, 0)
    with pytest.raises(Refused) as refused:
        open_.upload("k", 10, 0)
    assert (refused.value.status, refused.value.retry_s) == (429, 10) and "3600 bytes" in str(refused.value.limit)
    open_.upload("k", 10, 10)


def test_failed_keys_of_an_address() -> None:
    open_ = gates(failed_auth_per_min=6, failed_auth_burst=2)
    for _ in range(2):
        open_.failed_auth("a", 0)
    with pytest.raises(Refused) as refused:
        open_.failed_auth("a", 0)
    assert (refused.value.status, refused.value.retry_s) == (429, 10)
    open_.failed_auth("b", 0)
    open_.failed_auth("a", 10)


def test_sockets_of_an_address() -> None:
    open_ = gates(joins_per_s=1, joins_burst=3, sessions_per_address_max=2)
    for _ in range(2):
        assert open_.join("a", 0) is None
        open_.opened("a")
    barred = open_.join("a", 0)
    assert barred is not None and "2 worker sockets open" in barred.reason
    assert (barred.code, barred.retry_ms) == (4429, 30_000)
    open_.closed("a")
    assert open_.join("a", 0) is None
    barred = open_.join("a", 0)
    assert barred is not None and "1 worker sockets a second" in barred.reason and barred.retry_ms == 1_000
    assert open_.join("b", 0) is None and open_.join("a", 1) is None
    open_.closed("a")
    assert not open_.sockets, "an address that holds nothing takes no memory"


def test_sockets_in_all_joined_or_not() -> None:
    open_ = gates(sessions_max=10, joins_per_s=1e6)
    for n in range(10 + HANDSHAKES_MAX):
        assert open_.join(str(n), 0) is None
        open_.opened(str(n))
    barred = open_.join("another", 0)
    assert barred is not None and (barred.code, barred.retry_ms) == (1012, 10_000)
    open_.closed("0")
    assert open_.join("another", 0) is None


def test_joins_of_a_key() -> None:
    open_ = gates(joins_per_key_per_min=6, joins_per_key_burst=2)
    assert open_.join_of("w", 0) is None and open_.join_of("w", 0) is None
    barred = open_.join_of("w", 0)
    assert (
        barred is not None and (barred.code, barred.retry_ms) == (4429, 10_000) and "6 times a minute" in barred.reason
    )
    assert open_.join_of("other", 0) is None and open_.join_of("w", 10) is None


def test_streams_of_a_key_and_of_all() -> None:
    open_ = gates(streams_per_key_max=1, streams_max=2)
    open_.open_stream("k")
    with pytest.raises(Refused, match="1 of this key's event streams") as refused:
        open_.open_stream("k")
    assert refused.value.status == 429 and refused.value.limit == "1 event streams"
    open_.open_stream("other")
    with pytest.raises(Refused, match="2 of this gateway's"):
        open_.open_stream("third")
    open_.close_stream("k")
    open_.open_stream("third")
    open_.close_stream("third")
    open_.close_stream("other")
    assert not open_.streams.by_name and open_.streams.held == 0


def test_bodies_on_their_way_in() -> None:
    open_ = gates(bodies_per_key_max=1, bodies_max=2)
    with open_.body("k"), open_.body("other"):
        with pytest.raises(Refused, match="1 of this key's bodies") as refused, open_.body("k"):
            raise AssertionError("it was let in")
        assert (refused.value.status, refused.value.title, refused.value.retry_s) == (429, "Too many bodies", 1)
        with pytest.raises(Refused, match="2 of this gateway's"), open_.body("third"):
            raise AssertionError("it was let in")
    with pytest.raises(KeyError), open_.body("k"):
        raise KeyError
    with open_.body("k"):
        assert open_.bodies.held == 1, "however the one before ended"
    assert not open_.bodies.by_name


def test_uploads_of_one_lease_end() -> None:
    open_ = gates()
    for _ in range(TRIES_PER_LEASE_MAX):
        open_.result_upload("t-0")
    with pytest.raises(Refused) as refused:
        open_.result_upload("t-0")
    assert refused.value.status == 429
    open_.result_upload("t-1")


@pytest.mark.parametrize(
    ("header", "size", "want"),
    [
        ("", 10, None),
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=3-", 10, (3, 10)),
        ("bytes=3-9", 10, (3, 10)),
        ("bytes=3-10", 10, (3, 10)),
        ("bytes=9-99999999999", 10, (9, 10)),
        ("Bytes = 1 - 2", 10, (1, 3)),
        ("bytes=-4", 10, (6, 10)),
        ("bytes=-10", 10, (0, 10)),
        ("bytes=-11", 10, (0, 10)),
        ("rows=0-1", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("bytes=10-", 10, 416),
        ("bytes=10-11", 10, 416),
        ("bytes=-0", 10, 416),
        ("bytes=0-", 0, 416),
        ("bytes=-1", 0, 416),
        ("bytes=5-4", 10, 400),
        ("bytes=5-4", 3, 400),
        ("bytes=-", 10, 400),
        ("bytes=", 10, 400),
        ("bytes", 10, 400),
        ("bytes=a-b", 10, 400),
        ("bytes=--1", 10, 400),
        ("bytes=1-2-3", 10, 400),
        ("bytes=\u00b2-", 10, 400),
        ("bytes=" + "9" * 20 + "-", 10, 400),
    ],
)
def test_ranges(header: str, size: int, want: tuple[int, int] | int | None) -> None:
    if not isinstance(want, int):
        assert range_of(header, size) == want
        return
    with pytest.raises(Refused) as refused:
        range_of(header, size)
    assert refused.value.status == want
    assert (refused.value.headers == {"Content-Range": f"bytes */{size}"}) == (want == 416)
