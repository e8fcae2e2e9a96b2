"""What can go wrong for somebody who uses the client, each with the exit code that the command line gives it."""

from __future__ import annotations

import concurrent.futures


class ShardyError(Exception):
    """Anything the client reports: the message is one line that says what happened and what to change."""

    exit_code = 1


class InvalidInput(ShardyError, ValueError):
    """An argument, array or file that cannot be sent as it is; nothing was sent."""

    exit_code = 2


class MeshUnreachable(ShardyError, ConnectionError):
    """No answer from the mesh: the address is wrong, the mesh is down, or the network is."""

    exit_code = 3


class Refused(ShardyError):
    """The mesh answered and said no. status: the HTTP status; problem: its kind, a path such as /problems/no-such-job;
    limit: the limit that was passed, if one was; retry_after_s: when it may be asked again, if it said so; repeated:
    the request had been sent before, and broke on the way."""

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        limit: object = None,
        problem: str = "",
        retry_after_s: float | None = None,
        repeated: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.limit = limit
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.repeated = repeated


class JobFailed(ShardyError):
    """The job ended without a result. job: its last status."""

    exit_code = 1

    def __init__(self, message: str, job: dict[str, object]) -> None:
        super().__init__(message)
        self.job = job


class JobCancelled(JobFailed, concurrent.futures.CancelledError):
    """Somebody stopped the job."""


class JobTimeout(ShardyError, TimeoutError):
    """The job had not ended in the time the caller gave it; it goes on, and can be waited for again."""


class WorkerStopped(ShardyError):
    """A worker that should not reconnect by itself. code: the close code of protocol §1.2, or 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = {4403: 4, 4401: 4, 4409: 4}.get(code, 1)
