"""An event of the log in a line of words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

WORDS_CHARS_MAX = 160
Data = dict[str, Any]


def line_of(event: Data) -> str:
    """`<seq>  <time>  <subject>  <words>`."""
    return f"{event.get('seq'):>9}  {moment(event.get('at_ms'))}  {event.get('subject')}  {words_of(event)}".rstrip()


def moment(ms: Any) -> str:
    """A time of the log, in UTC."""
    if not isinstance(ms, int):
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03d}"


def words_of(event: Data) -> str:
    """What the subject does not say."""
    data = event.get("data")
    if not isinstance(data, dict):
        return f"cannot be read: {event.get('error') or ''}"[:WORDS_CHARS_MAX]
    make = _WORDS.get(str(event.get("event")))
    try:
        text = make(data) if make is not None else _plain(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        text = _plain(data)  # of a version that this one does not know
    return " ".join(text.split())[:WORDS_CHARS_MAX]


def _plain(data: Data) -> str:
    parts = (f"{name} {value}" for name, value in data.items() if name != "e" and isinstance(value, str | int | float))
    return ", ".join(parts)


def _digest(data: Data, name: str = "digest") -> str:
    return str(data.get(name, ""))[:12]


def _end(worker: Any) -> str:
    return f"…{str(worker)[-6:]}"


def _leases(data: Data) -> str:
    return ", ".join(_end(lease["worker"]) for lease in data["leases"])


def _tile(data: Data) -> str:
    tile = data["tile"]
    row0, rows, col0, cols = tile if isinstance(tile, list) else (tile[n] for n in ("row0", "rows", "col0", "cols"))
    return f"rows {row0}–{row0 + rows - 1}, columns {col0}–{col0 + cols - 1}"


def _many_created(data: Data) -> str:
    tasks = data["tasks"]  # arrays: id, tile, leases
    leases = [lease for _, _, leases, *_ in tasks for lease in leases]
    return f"{len(tasks)} tasks to {', '.join(dict.fromkeys(_end(lease['worker']) for lease in leases))}"


def _result(data: Data) -> str:
    return f"{_digest(data)} of {_end(data['worker'])}, {data['size']} bytes in {data['ms']:.0f} ms"


def _many_results(data: Data) -> str:
    frames = data["frames"]  # arrays: worker, signature, leaves, results
    workers = ", ".join(dict.fromkeys(_end(worker) for worker, *_ in frames))
    return f"{sum(len(results) for *_, results in frames)} results of {workers}"


_WORDS: dict[str, Callable[[Data], str]] = {
    "job.submitted": lambda d: f"{d['spec']['kind']}, policy {d['spec']['policy']}, by {d['requester']}",
    "job.completed": lambda d: f"{d['cells']} cells in {d['tasks']} tasks",
    "job.failed": lambda d: str(d["cause"]),
    "job.cancelled": lambda d: f"by {d['by']}",
    "job.reopened": lambda d: f"through letter {d['entry']}, {len(d['tasks'])} tiles missing",
    "task.created": lambda d: _many_created(d) if "tasks" in d else f"{_tile(d)} to {_leases(d)}",
    "task.assigned": lambda d: f"{d['cause']}: to {_leases(d)}",
    "task.expired": lambda d: f"{d['cause']}: {len(d['leases'])} leases",
    "task.disputed": lambda d: f"{len(d['votes'])} different results, {d['need']} more wanted",
    "task.verified": lambda d: f"{d['method']}: {_digest(d)} of {', '.join(map(_end, d['workers']))}",
    "task.unresolved": lambda d: str(d["cause"]),
    "result.submitted": lambda d: _many_results(d) if "frames" in d else _result(d),
    "result.failed": lambda d: f"{d['code']} by {_end(d['worker'])} {d['message']}",
    "fraud.detected": lambda d: f"{_end(d['worker'])}: {_digest(d)} is wrong in row {d['row']} ({d['method']})",
    "worker.joined": lambda d: f"{d['agent']} at {d['gateway']}, {d['probe']['gops']:g} GOPS",
    "worker.tiered": lambda d: f"{d['tier']}, {d['max_leases']} leases",
    "worker.left": lambda d: str(d["cause"]),
    "dlq.recorded": lambda d: f"{d['cause']}: {d['subject_of']} (event {d['seq_of']})",
    "dlq.replayed": lambda d: f"by {d['by']}: {d['outcome']}",
    "dlq.discarded": lambda d: f"by {d['by']}: {d['reason']}",
    "proof.challenged": lambda d: (
        f"{_end(d['worker'])} is to prove {d['checked']} of {d['tiles']} tiles under {d['version']}"
    ),
    "proof.submitted": lambda d: f"by {_end(d['worker'])}",
    "proof.verified": lambda d: (
        f"{_digest(d)} of {_end(d['worker'])} under {d['version']}: {d['checked']} of {d['tiles']} tiles"
    ),
    "proof.rejected": lambda d: f"{_digest(d)} of {_end(d['worker'])}: {d['cause']}: {d.get('detail', '')}",
    "proof.reaudited": lambda d: f"{_digest(d)}, verified under {d['version']}, which is revoked: {d['outcome']}",
    "verifier.registered": lambda d: f"version {d['version']} ({_digest(d, 'vk_hash')}) by {d['by']}",
    "verifier.rotated": lambda d: f"to version {d['version']} from {d['former'] or 'none'} by {d['by']}",
    "verifier.revoked": lambda d: f"version {d['version']} by {d['by']}: {d['why']}",
    "ceremony.started": lambda d: f"run {d['run']} from key {_digest(d, 'zkey')} by {d['by']}",
    "ceremony.contributed": lambda d: f"run {d['run']}: {d['number']} of {d['contributor']!r} by {d['by']}",
    "ceremony.sealed": lambda d: f"run {d['run']}: beacon {d['beacon'][:12]} by {d['by']}",
    "ceremony.verified": lambda d: f"run {d['run']}: {d['why'] or 'all is well'} by {d['by']}",
    "ceremony.finished": lambda d: f"run {d['run']}: key {_digest(d, 'zkey')} by {d['by']}",
    "key.issued": lambda d: f"{d['label']!r} ({', '.join(d['scopes'])}) by {d['by']}",
    "key.revoked": lambda d: f"by {d['by']}, ends {moment(d['at_ms'])}",
}
