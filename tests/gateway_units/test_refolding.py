"""Replaying a handler's letter: which replicas fold anew, and what the operator hears. The control plane is played."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shardy_common.errors import Refused, Transient
from shardy_gateway import refolding
from shardy_gateway.letters import Letter
from shardy_gateway.refolding import Refolds, lack_of

ERROR = "KeyError at shardy_quorum/task.py:7: 'x'"


def letter(**evidence: str) -> Letter:
    said = {"service": "quorum", **evidence}
    return Letter("handler-quorum-7", "handler", "open", "job.failed.j", 7, 1, "", said, None, None, None, 9)


class Plane:
    """Replicas by name: whether each lacks the event, and whether its program is repaired."""

    def __init__(self, *lacking: str, without: str = "", repaired: bool = True) -> None:
        self.lacking, self.names = set(lacking), [*lacking, *without]
        self.repaired, self.rebuilt = repaired, list[str]()
        self.hold: asyncio.Event | None = None
        self.silent = False

    def statuses(self) -> list[dict[str, Any]]:
        skipped = [{"seq": 7, "entry": "handler-quorum-7", "error": ERROR, "version": "1"}]
        build = {"done": 30, "of": 100, "per_s": 10, "seconds_left": 7.0} if self.hold else None
        return [
            {"instance": n, "skipped": skipped if n in self.lacking else [], "standing": None, "build": build}
            for n in self.names
        ]

    async def request(self, subject: str, _payload: bytes, timeout: float) -> Any:
        assert subject.startswith("ctl.quorum.rebuild.") and timeout > 60
        if self.hold is not None:
            await self.hold.wait()
        name = subject.rpartition(".")[2]
        self.rebuilt.append(name)
        if self.repaired:
            self.lacking.discard(name)
        return type("Reply", (), {"data": json.dumps({"service": "quorum"}).encode()})


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def on(plane: Plane) -> Refolds:
        async def statuses(_client: Any, service: str) -> list[dict[str, Any]]:
            assert service == "quorum"
            return [] if plane.silent else plane.statuses()

        monkeypatch.setattr(refolding, "statuses", statuses)
        return Refolds(lambda: plane)  # type: ignore[arg-type, return-value]

    return on


async def test_only_replicas_that_lack_the_event_fold_anew_in_turn(play: Any) -> None:
    plane = Plane("1", "0", without="2")
    assert await play(plane).folded(letter()) == "event 7 is folded: 2 replicas of quorum folded the log anew"
    assert plane.rebuilt == ["0", "1"]


async def test_nobody_folds_anew_for_what_is_folded(play: Any) -> None:
    plane = Plane(without="01")
    assert "had folded the log anew before" in await play(plane).folded(letter())
    assert plane.rebuilt == []


async def test_what_still_throws_is_refused_with_the_reason_and_may_be_tried_again(play: Any) -> None:
    plane = Plane("0", repaired=False)
    refolds = play(plane)
    with pytest.raises(Refused, match="replica 0 of quorum still cannot fold event 7: KeyError at shardy_quorum") as no:
        await refolds.folded(letter())
    assert no.value.status == 409
    plane.repaired = True
    assert "one replica" in await refolds.folded(letter())


async def test_a_long_build_is_told_of_and_its_result_is_kept(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refolding, "WAIT_S", 0.02)
    plane = Plane("0")
    plane.hold = asyncio.Event()
    refolds = play(plane)
    for _ in range(2):
        with pytest.raises(Transient, match="30 of 100 events, 7 s are left; ask again"):
            await refolds.folded(letter())
    plane.hold.set()
    plane.hold = None
    await asyncio.sleep(0.05)
    assert "one replica" in await refolds.folded(letter())
    assert plane.rebuilt == ["0"], "asking again begins no second build"


async def test_a_service_that_is_away_is_waited_for(play: Any) -> None:
    plane = Plane("0")
    plane.silent = True
    with pytest.raises(Transient, match="no replica of quorum answers"):
        await play(plane).folded(letter())


@pytest.mark.parametrize("service", ["", "a.b", "*", ">", "quorum.rebuild 0"])
async def test_a_letter_that_names_no_service_asks_nobody(play: Any, service: str) -> None:
    with pytest.raises(Refused, match="does not say which service"):
        await play(Plane("0")).folded(letter(service=service))


def test_a_service_that_stands_still_lacks_the_event() -> None:
    standing = {"seq": 7, "subject": "s", "tries": 9, "error": ERROR}
    assert lack_of({"skipped": [], "standing": standing}, letter()) == ERROR
    assert lack_of({"skipped": [], "standing": {**standing, "seq": 8}}, letter()) == ""
