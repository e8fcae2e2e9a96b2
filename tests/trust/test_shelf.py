"""Maps that keep a part in memory: what is found, what stays, and that nothing that is written down depends on it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_events import JOB, created, joined, lease, matmul, result, submitted, tiered

from shardy_common import shelf
from shardy_common.log import MemoryLog, Projection
from shardy_common.log.types import Append
from shardy_common.shelf import Shelf
from shardy_common.wire import events as ev
from shardy_common.wire.job import Tile
from shardy_gateway import views
from shardy_matchmaker import core as matchmaker
from shardy_matchmaker.decide import Matchmaker
from shardy_quorum import core as quorum


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), max_size=80), st.integers(0, 4))
def test_it_finds_what_a_map_of_everything_finds(steps: list[tuple[str, int]], keep_max: int) -> None:
    """Rows are written at each commit, then memory is trimmed."""
    kept: Shelf[int] = Shelf(keep_max)
    rows: dict[str, int] = {}
    everything: dict[str, int] = {}
    touched: set[str] = set()
    kept.recall = rows.get
    for key, what in steps:
        if what < 2:
            value = (kept.find(key) or 0) + 1
            everything[key] = everything.get(key, 0) + 1
            kept[key] = value
            touched.add(key)
        elif what == 2:
            kept.trim(touched)
            assert len(kept) <= max(keep_max, len(touched))
            rows |= {key: kept[key] for key in touched}
            touched.clear()
        assert kept.find(key) == everything.get(key)
    assert {key: kept.find(key) for key in everything} == everything


def test_what_is_in_use_stays_and_is_not_looked_at_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "LOOKED_MAX", 2)
    kept: Shelf[int] = Shelf(2)
    kept.update({f"busy{n}": 1 for n in range(10)} | {"idle": 0})
    assert sum(kept.trim((), lambda value: value == 0) for _ in range(5)) == 1
    assert "idle" not in kept and len(kept) == 10 and kept.spilled


def test_what_is_not_there_is_asked_for_once() -> None:
    asked: list[str] = []
    kept: Shelf[int] = Shelf(1)
    kept.recall = asked.append  # type: ignore[assignment]
    assert kept.find("a") is None and asked == [], "all of it is in memory"
    kept.spilled = True
    assert kept.find("a") is None and kept.find("a") is None and asked == ["a"]
    kept["a"] = 5
    assert kept.find("a") == 5
    kept.recall = lambda _key: 5
    kept["b"] = 6
    assert kept.trim({"b"}) == 1 and kept.find("a") == 5


# -- folds ------------------------------------------------------------------------------------------------------------

CORES: dict[str, Any] = {
    "gateway": (views.Views, views.TABLES, views.VERSION),
    "matchmaker": (lambda: matchmaker.MatchmakerCore(Matchmaker()), matchmaker.TABLES, matchmaker.VERSION),
    "quorum": (quorum.QuorumCore, quorum.TABLES, quorum.VERSION),
}


def life(seed: int) -> list[ev.Event]:
    """Devices come and go, some for long; they are lent to, answer late, are caught, and come back."""
    rng, events = random.Random(seed), [submitted(matmul(4_000, 4, 3, policy="adaptive"))]
    names, sessions, row, tasks = [f"w{n}" for n in range(12)], dict.fromkeys(range(12), 0), 0, []
    for _ in range(250):
        n = rng.randrange(len(names))
        name, session = names[n], f"s{sessions[n]}-{names[n]}"
        what = rng.choice(["join", "leave", "lend", "answer", "verify", "verify", "expire", "fraud", "restart"])
        if what == "join":
            sessions[n] += 1
            session = f"s{sessions[n]}-{name}"
            events += [joined(name, session, gateway=rng.choice("gh")), tiered(name, session=session)]
        elif what == "leave":
            events.append(ev.WorkerLeft(name, session, rng.choice(("left", "dropped"))))
        elif what == "lend":
            events.append(created(task := f"{JOB}-0-{row}-{rng.getrandbits(24):06x}", Tile(row, 4, 0, 4), name))
            tasks.append((task, Tile(row, 4, 0, 4), name))
            row += 4
        elif tasks:
            task, tile, worker = rng.choice(tasks)
            if what == "answer":
                events.append(result(task, 0, worker))
            elif what == "verify":
                events.append(ev.TaskVerified(task, JOB, tile, "aa", 64, [worker, name], "quorum", 0, 10**9))
            elif what == "expire":
                events.append(ev.TaskExpired(task, JOB, [lease(task, 0, worker).id], "deadline"))
            elif what == "fraud" and rng.random() < 0.2:
                events.append(ev.FraudDetected(task, JOB, worker, f"{task}-0", "bb", "audit", 0))
            elif what == "restart":
                events.append(ev.GatewayStarted(rng.choice("gh"), f"i{rng.random()}"))
    return events


@pytest.mark.parametrize("service", CORES)
@pytest.mark.parametrize("seed", range(6))
def test_rows_are_the_same_whatever_left_memory_and_whenever(
    service: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, tables, version = CORES[service]
    clock = iter(range(1_000, 10**9, 700))
    log = MemoryLog(lambda: next(clock))
    for n, event in enumerate(life(seed)):
        log.append_now(Append(event, str(n)))

    def folded(keep_max: int, commit_each: int, restart: bool) -> tuple[str, int]:
        monkeypatch.setattr(shelf, "KEEP_MAX", keep_max)
        projection, core = Projection(":memory:", tables, version=version), make()
        core.load(projection)
        dropped = 0
        for recorded in log.events:
            core.evolve(recorded)
            if recorded.seq % commit_each == 0 or recorded.seq == len(log.events):
                projection.commit(core.rows(), recorded.seq)
                if restart and recorded.seq % 50 == 0:
                    core = make()
                    core.load(projection)
        book = core.reputations._book if service == "gateway" else getattr(core, service).__dict__.get("book")
        book = book if book is not None else core.matchmaker.fold.book
        dropped = len(projection.rows(f"SELECT 1 FROM {'reputations' if service == 'gateway' else 'trust'}"))
        return projection.checksum(), dropped - len(book.records)

    for commit_each, restart, few in ((1, False, 2), (7, False, 0), (10, True, 1)):
        want, _ = folded(10_000, commit_each, restart)
        found, left = folded(few, commit_each, restart)
        assert found == want and left > 0, "some of them were in the rows alone"
