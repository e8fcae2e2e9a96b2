"""The dead letters that any service writes: of bytes that no version explains, and of events that it cannot fold."""

from __future__ import annotations

import traceback
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType

from shardy_common.log import Append, Recorded, Skipped
from shardy_common.wire import subjects
from shardy_common.wire.events import DlqRecorded

HANDLER = "handler"  # the cause of a letter about an event whose handler throws
POISON_BYTES_MAX = 512  # of the undecodable bytes, kept as evidence; all of them stay in the log
ERROR_CHARS_MAX = 500
CALLER = "shardy_common.service"  # from where cores are called: its frame says nothing


def poison(service: str, recorded: Recorded) -> Append:
    """Of bytes that do not decode. One for all services: who meets them first writes it."""
    evidence = {
        "reader": service,
        "bytes": recorded.payload[:POISON_BYTES_MAX].hex(),
        "size": str(len(recorded.payload)),
        "subject": recorded.subject,
        "error": recorded.error[:ERROR_CHARS_MAX],
        "trace": recorded.trace,
    }
    return _once(DlqRecorded(f"poison-{recorded.seq}", "poison", recorded.subject, recorded.seq, evidence), recorded)


def handler_entry(service: str, seq: int) -> str:
    return f"{HANDLER}-{service}-{seq}"


def handler(service: str, recorded: Recorded, error: Exception, tries: int) -> tuple[Append, Skipped]:
    """Of an event that this service cannot fold, and what its projection keeps of that."""
    entry, running = handler_entry(service, recorded.seq), package_version()
    words = one_line(str(error))
    evidence = {
        "service": service,
        "version": running,
        "exception": type(error).__name__,
        "error": words,
        "at": place_of(error.__traceback__),
        "subject": recorded.subject,
        "seq": str(recorded.seq),
        "tries": str(tries),
        "trace": recorded.trace,
    }
    letter = _once(DlqRecorded(entry, HANDLER, recorded.subject, recorded.seq, evidence), recorded)
    said = f"{evidence['exception']} at {evidence['at']}: {words}"
    return letter, Skipped(recorded.seq, entry, said[:ERROR_CHARS_MAX], running)


def package_version() -> str:
    """Of the program that runs."""
    try:
        return version("shardy")
    except PackageNotFoundError:
        return "unknown"


def one_line(text: str) -> str:
    """Printable, on one line, bounded: it may repeat what a stranger sent."""
    return "".join(c if c.isprintable() else " " for c in text)[:ERROR_CHARS_MAX]


def place_of(trace: TracebackType | None) -> str:
    """`module/file.py:line` of the innermost frame of our own, without the machine's folders."""
    places = [(str(frame.f_globals.get("__name__", "?")), line) for frame, line in traceback.walk_tb(trace)]
    places = [place for place in places if place[0] != CALLER] or places
    own = [place for place in places if place[0].startswith("shardy_")] or places
    module, line = own[-1] if own else ("?", 0)
    return f"{module.replace('.', '/')}.py:{line}"


def _once(event: DlqRecorded, recorded: Recorded) -> Append:
    """Once, whoever meets it and however often: a rebuild must not open a letter that somebody has closed."""
    only = subjects.of_entity("dlq", event.entry)
    cause, _, about = event.entry.partition("-")
    return Append(event, f"{cause}/{about}", 0, only, recorded.trace)
