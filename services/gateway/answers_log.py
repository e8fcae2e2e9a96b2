"""The shapes of what the API tells of the log."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from shardy_gateway.answer_base import Count, Ms, Strict


class LogEvent(Strict):
    """data: the event as it stands in the log (docs/subjects.md). Where this version cannot read it, event and data are
    null, error says why, and bytes are its first ones in hex."""

    seq: Count
    at_ms: Ms
    subject: str
    event: str | None
    trace: str
    data: dict[str, Any] | None
    error: str | None
    bytes: str | None


class LogPage(Strict):
    """next: for `after`, or `before`, as the page was asked for; null at the end. scanned: how many events were looked
    at; last: the newest of the log."""

    events: list[LogEvent]
    next: Annotated[int | None, Meta(examples=[None])]
    scanned: Count
    last: Count


class StoryLine(Strict):
    """One event in words. after_ms: since the task began; follows: the events (seq) that it follows from. context: it
    happened to something else, and something of the task follows from it."""

    seq: Count
    at_ms: Ms
    after_ms: int
    event: Annotated[str, Meta(description="its name; empty for bytes that this version cannot read")]
    words: str
    follows: list[int]
    context: bool


class TaskStory(Strict):
    """In the order of the log."""

    task: str
    job: str
    lines: list[StoryLine]
