"""What every event is: a small frozen struct with a tag, a name and the id of what it happened to."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from shardy_common.wire import subjects


class Event(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True):
    """Base. `name` is the first two subject tokens; `entity_id` the third."""

    name: ClassVar[str]

    @property
    def entity_id(self) -> str:
        raise NotImplementedError

    @property
    def subject(self) -> str:
        return subjects.subject(self.name, self.entity_id)


class JobEvent(Event, frozen=True):
    job: str

    @property
    def entity_id(self) -> str:
        return self.job


class TaskEvent(Event, frozen=True):
    task: str
    job: str

    @property
    def entity_id(self) -> str:
        return self.task


class WorkerEvent(Event, frozen=True):
    worker: str
    session: str

    @property
    def entity_id(self) -> str:
        return self.worker


class LetterEvent(Event, frozen=True):
    entry: str

    @property
    def entity_id(self) -> str:
        return self.entry


class KeyEvent(Event, frozen=True):
    key: str

    @property
    def entity_id(self) -> str:
        return self.key


class VerifierEvent(Event, frozen=True):
    """Of a circuit: so changes of its versions are decided one after the other."""

    circuit: str

    @property
    def entity_id(self) -> str:
        return self.circuit


class CeremonyEvent(Event, frozen=True):
    """Of a circuit, so that its changes are decided one after the other. run: the try that it belongs to."""

    circuit: str
    run: int

    @property
    def entity_id(self) -> str:
        return self.circuit
