"""What was refused is counted, all of it; and written down with its trace, as much as a flood leaves room for."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from shardy_gateway.guard import Caller
from shardy_gateway.refusals import LINES_BURST, Refusals

TRACE = "0af7651916cd43dd8448eb211c80319c"


def scope(traceparent: str = "", **more: Any) -> dict[str, Any]:
    headers = [(b"traceparent", traceparent.encode())] if traceparent else []
    return {"method": "GET", "path": "/v1/jobs/j0", "headers": headers, **more}


def test_calls_and_sockets_are_counted_by_kind() -> None:
    refusals = Refusals()
    for slug, status in (("no-such-job", 404), ("no-such-job", 404), ("refused", 422)):
        refusals.call(scope(), slug, status, "x")
    refusals.socket(4400, "a text message", "s1", "", "10.0.0.1")
    refusals.socket(4429, "too many frames", "s2", "w2", "10.0.0.1")
    refusals.socket(4400, "no frame", "s3", "w3", "10.0.0.1")
    shown = refusals.shown()
    assert shown["calls"] == {"no-such-job": 2, "refused": 1} and shown["sockets"] == {"4400": 2, "4429": 1}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        ("", "-"),
        ("rubbish", "-"),
        (f"00-{TRACE}-b7ad6b7169203331-01\nforged line", "-"),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", "-"),
    ],
)
def test_a_line_has_the_callers_trace_and_nothing_that_could_forge_one(
    given: str, written: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shardy.gateway.refused")
    who = Caller("0123456789abcdef", "owner", frozenset())
    Refusals().call(scope(given, **{"shardy.caller": who}), "no-such-job", 404, "you have no job of this id")
    (line,) = caplog.messages
    assert line.endswith(f"(key 0123456789abcdef, trace {written})") and "no-such-job" in line and "\n" not in line


def test_a_flood_is_counted_and_not_written_down(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at one moment: how many lines may be written depends on the time that passes."""
    caplog.set_level(logging.INFO, "shardy.gateway.refused")
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0)
    refusals = Refusals()
    for _ in range(10 * LINES_BURST):
        refusals.call(scope(), "refused", 422, "x" * 10_000)
    assert refusals.calls["refused"] == 10 * LINES_BURST
    assert len(caplog.messages) == LINES_BURST and refusals.unwritten == 9 * LINES_BURST
    assert all(len(line) < 1_000 for line in caplog.messages)


def test_what_a_stranger_sends_makes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Paths, details and reasons may hold what was sent: line ends in them end no line."""
    caplog.set_level(logging.INFO, "shardy.gateway.refused")
    refusals = Refusals()
    refusals.call({**scope(), "path": "/v1/jobs/a\nb\r\x1b[31m"}, "not-found", 404, "no\nsuch\x00thing")
    refusals.socket(4400, "frame type 'a\nb' is not expected", "s", "w", "a\nddress")
    assert len(caplog.messages) == 2 and not any(ord(c) < 32 for line in caplog.messages for c in line)
