"""The three kinds of failure, and nothing else: each handler maps them to an answer in one place.

Refused: the caller's fault; the text says what to change. Transient: try again later. Anything else is a bug in
Shardy: the process stops, restarts, and replays the log.
"""

from __future__ import annotations


class Refused(Exception):
    """The request cannot be served as it is. status: HTTP status; limit: the limit that was passed, if one was.

    title: a kind of refusal that docs/problems.md explains; retry_s: when it may be asked again; headers: further
    headers of the answer.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int = 422,
        title: str = "Refused",
        limit: str | None = None,
        retry_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail, self.status, self.title, self.limit = detail, status, title, limit
        self.retry_s, self.headers = retry_s, headers or {}


class Transient(Exception):
    """What should work a moment later did not: a lost connection, a full queue. retry_ms: when to try again."""

    def __init__(self, detail: str, *, retry_ms: int = 1000) -> None:
        super().__init__(detail)
        self.detail, self.retry_ms = detail, retry_ms
