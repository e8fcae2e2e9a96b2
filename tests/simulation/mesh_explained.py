"""What explains events of workers, letters and keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from mesh_oracle import check
from mesh_proofs import Proofs
from mesh_verifiers import Versions

from shardy_common.log import Recorded
from shardy_common.wire import events as ev


@dataclass(slots=True)
class WorkerStory:
    """gone: place of the last event that ended a session of it."""

    session: str
    gateway: str
    instance: str
    joined: int  # place of its last join
    there: bool = True
    gone: int = 0
    tier: str = ""


@dataclass(slots=True)
class LetterStory:
    cause: str
    job: str
    about: int
    closed: str = ""


class Others:
    """due: letters that must be written, and those that must be closed, by their causes in the log. proofs: set by the
    explainer."""

    proofs: Proofs

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self.seen: dict[str, WorkerStory] = {}
        self.sessions: set[str] = set()
        self.proves: dict[str, int] = {}  # session → memory that it gives for proofs, in MiB
        self.prepared: dict[str, str] = {}  # canary → digest of its answer
        self.letters: dict[str, LetterStory] = {}
        self.due: dict[str, tuple[str, str, int]] = {}
        self._reopened: dict[str, int] = {}  # job → place of its last reopening
        self._key_ends: list[tuple[int, str, int]] = []
        self.versions = Versions()

    def see_other(self, event: Any, recorded: Recorded) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, recorded)

    # -- workers --------------------------------------------------------------------------------------------------

    def stale(self, worker: str, session: str) -> bool:
        """Whether a lease goes to a session that is over. It must have been one once."""
        check(session in self.sessions, "a lease to nobody:", worker, session)
        story = self.seen[worker]
        return not story.there or story.session != session

    def lost(self, worker: str, since: int) -> bool:
        """Whether a session of the worker ended after that place in the log."""
        return self.seen[worker].gone > since

    def _joined(self, event: ev.WorkerJoined, recorded: Recorded) -> None:
        check(event.session not in self.sessions, "a session twice:", event)
        self.sessions.add(event.session)
        self.proves[event.session] = event.probe.proves_mib
        before = self.seen.get(event.worker)
        story = self.seen[event.worker] = WorkerStory(event.session, event.gateway, event.instance, recorded.seq)
        if before is not None:
            story.gone = recorded.seq  # what it had and does not bring is lost

    def _tiered(self, event: ev.WorkerTiered, _recorded: Recorded) -> None:
        check(event.session in self.sessions, "a tier for nobody:", event)
        story = self.seen[event.worker]
        if event.session == story.session:
            check(not story.tier, "a tier twice:", event)
            story.tier = event.tier

    def _left(self, event: ev.WorkerLeft, recorded: Recorded) -> None:
        check(event.session in self.sessions, "nobody left:", event)
        story = self.seen[event.worker]
        if story.session == event.session:
            story.there, story.gone = False, recorded.seq

    def _gateway(self, event: ev.GatewayStarted, recorded: Recorded) -> None:
        for story in self.seen.values():
            if story.gateway == event.gateway and story.instance != event.instance:
                story.there, story.gone = False, recorded.seq

    # -- letters --------------------------------------------------------------------------------------------------

    def owe_letter(self, entry: str, cause: str, recorded: Recorded, job: str) -> None:
        if entry not in self.letters:
            self.due[entry] = (cause, job, recorded.seq)

    def asks_for(self, entry: str, job: str) -> bool:
        """Whether this is a letter about a task of the job. Another operator may have closed it at the same time."""
        letter = self.letters.get(entry)
        return letter is not None and letter.job == job and letter.cause == "unresolved"

    def reopened(self, event: ev.JobReopened, recorded: Recorded) -> None:
        """All open letters about the job's tasks are answered, those that are not written yet too."""
        self._reopened[event.job] = recorded.seq
        for entry, letter in self.letters.items():
            if letter.job == event.job and letter.cause == "unresolved" and not letter.closed:
                self.due[f"close {entry}"] = ("replayed", event.job, recorded.seq)

    def _letter(self, event: ev.DlqRecorded, _recorded: Recorded) -> None:
        check(event.entry not in self.letters, "a dead letter twice:", event)
        cause, job, about = self.due.pop(event.entry, ("", "", 0))
        check(event.cause == cause and event.seq_of == about, "a dead letter about nothing:", event)
        self.letters[event.entry] = LetterStory(cause, job, about)
        if cause == "unresolved" and self._reopened.get(job, 0) > about:
            self.due[f"close {event.entry}"] = ("replayed", job, about)

    def _closed(self, event: Any, _recorded: Recorded) -> None:
        letter = self.letters.get(event.entry)
        check(letter is not None and not letter.closed, "a dead letter was closed twice, or is none:", event)
        assert letter is not None
        wanted = self.due.pop(f"close {event.entry}", None) is not None
        check(wanted or isinstance(event, ev.DlqDiscarded), "a letter was closed for nothing:", event)
        letter.closed = event.by

    # -- keys and versions ----------------------------------------------------------------------------------------

    def _revoked(self, event: ev.KeyRevoked, recorded: Recorded) -> None:
        self._key_ends.append((recorded.seq, event.key, event.at_ms))

    def key_ends(self, until: int) -> dict[str, int]:
        """Keys that somebody ended, with the earliest end that was ever set."""
        ends: dict[str, int] = {}
        for seq, key, at_ms in self._key_ends:
            if seq <= until:
                ends[key] = min(at_ms, ends.get(key, at_ms))
        return ends

    def _version(self, event: Any, recorded: Recorded) -> None:
        self.versions.see(event, recorded)
        if isinstance(event, ev.VerifierRevoked):
            self.proofs.revoked(event.version)


_HANDLERS: dict[type | None, Any] = {
    ev.WorkerJoined: Others._joined,
    ev.WorkerTiered: Others._tiered,
    ev.WorkerLeft: Others._left,
    ev.GatewayStarted: Others._gateway,
    ev.DlqRecorded: Others._letter,
    ev.DlqReplayed: Others._closed,
    ev.DlqDiscarded: Others._closed,
    ev.KeyRevoked: Others._revoked,
    ev.VerifierRegistered: Others._version,
    ev.VerifierRotated: Others._version,
    ev.VerifierRevoked: Others._version,
}
