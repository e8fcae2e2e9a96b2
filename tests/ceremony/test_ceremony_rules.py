"""What may be done to a ceremony, and what the fold makes of it: given events, when a command comes, then an event or a
refusal in words."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_common.ceremony import Ceremonies, CeremonyFold, Run
from shardy_common.ceremony.fold import TABLES
from shardy_common.ceremony.transcript import CHECKS_MAX, CIRCUITS_MAX, CONTRIBUTIONS_MAX, RUNS_MAX
from shardy_common.errors import Refused
from shardy_common.log import Append, MemoryLog, Projection
from shardy_common.wire import events as ev
from shardy_gateway.ceremony_rules import (
    decide_contribute,
    decide_finish,
    decide_seal,
    decide_start,
    decide_verified,
)

PTAU, VALUE, R1CS = "9" * 128, "7b" * 32, "1" * 64


def digest(number: int) -> str:
    return f"{number:064x}"


def shown(number: int) -> str:
    return f"{number:0128x}"


class Given:
    """Ceremonies over a log. Key n of a run is digest(1000 * run + n), and made by the contribution shown(n)."""

    def __init__(self) -> None:
        self.log, self.fold = MemoryLog(lambda: 5_000), CeremonyFold()

    @property
    def known(self) -> Ceremonies:
        return self.fold.known

    def then(self, event: ev.Event | None) -> Any:
        if event is not None:
            self.log.append_now(Append(event, f"m{len(self.log.events)}"))
            self.fold.evolve(self.log.events[-1])
        return event

    def start(self, circuit: str = "c", again: bool = False, by: str = "op", **changed: Any) -> Any:
        run = self.known.current[circuit].run if circuit in self.known.current else 0
        said = {"r1cs": R1CS, "ptau": PTAU, "powers": "", "zkey": digest(1000 * (run + 1))} | changed
        return self.then(decide_start(self.known, circuit, **said, again=again, by=by))

    def contribute(self, name: str, number: int, run: int = 1, **changed: Any) -> Any:
        at = 1000 * run + number
        said = {"shown": shown(at), "base": digest(at - 1), "zkey": digest(at)} | changed
        return self.then(decide_contribute(self.known, "c", run, name, **said, by=f"key-{name}"))

    def seal(self, number: int, run: int = 1, **changed: Any) -> Any:
        at = 1000 * run + number
        said = {"beacon": VALUE, "iterations": 10, "shown": shown(at), "base": digest(at - 1), "zkey": digest(at)}
        return self.then(decide_seal(self.known, "c", run, **(said | changed), by="op"))

    def verified(self, key: str, by: str = "op", good: bool = True, fault: int = 0, why: str = "") -> Any:
        return self.then(decide_verified(self.known, "c", self.run.run, key, good, fault, why, by))

    def finish(self, key: str, run: int = 1, by: str = "op", vk: str = "f" * 64) -> Any:
        return self.then(decide_finish(self.known, "c", run, key, vk, by))

    @property
    def run(self) -> Run:
        return self.known.current["c"]


@pytest.fixture
def three() -> Given:
    """Run 1 with three contributions."""
    given = Given()
    given.start()
    for number, name in enumerate(("Ada", "Bo", "Cyd"), 1):
        given.contribute(name, number)
    return given


@pytest.fixture
def sealed(three: Given) -> Given:
    three.seal(4)
    return three


def refused(words: str, status: int = 422) -> Any:
    class Expected:
        def __enter__(self) -> None:
            self.raises = pytest.raises(Refused, match=words)
            self.info = self.raises.__enter__()

        def __exit__(self, *about: Any) -> bool:
            done = bool(self.raises.__exit__(*about))
            assert self.info.value.status == status, self.info.value.detail
            return done

    return Expected()


def test_a_whole_ceremony(sealed: Given) -> None:
    run = sealed.run
    assert [one.contributor for one in run.contributions] == ["Ada", "Bo", "Cyd"]
    assert [one.number for one in run.contributions] == [1, 2, 3]
    bases = [one.base for one in run.contributions]
    assert bases == [run.zkey, *(one.zkey for one in run.contributions[:-1])], "one chain"
    assert run.state == "sealed" and run.head == digest(1004)
    assert isinstance(sealed.verified(digest(1004)), ev.CeremonyVerified)
    assert isinstance(sealed.finish(digest(1004)), ev.CeremonyFinished)
    assert sealed.run.state == "finished" and sealed.run.vk_hash == "f" * 64 and sealed.run.finished_by == "op"
    again = sealed.start(again=True)
    assert again.run == 2 and sealed.run.state == "open" and not sealed.run.contributions


def test_what_was_told_before_is_nothing_to_do(sealed: Given) -> None:
    assert sealed.contribute("Bo", 2) is None and sealed.seal(4) is None
    sealed.verified(digest(1004))
    assert sealed.verified(digest(1004)) is None
    sealed.finish(digest(1004))
    assert sealed.finish(digest(1004)) is None
    fresh = Given()
    fresh.start()
    assert fresh.start(zkey=digest(1000)) is None and fresh.start(again=True, zkey=digest(1000)) is None


def test_of_two_contributions_on_one_key_the_first_counts(three: Given) -> None:
    with refused("contribution 3 of Cyd built on that key before: begin again on the newest", 409):
        three.contribute("Dee", 3, zkey=digest(77), shown=shown(77))
    with refused("that is not it: begin again", 409):
        three.contribute("Dee", 9)
    assert three.contribute("Dee", 4).number == 4


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shown": "5" * 127}, "hash is that of the contribution"),
        ({"shown": "G" * 128}, "hash is that of the contribution"),
        ({"base": "5"}, "base is a BLAKE3 digest"),
        ({"zkey": digest(1).upper()[:-1] + "G"}, "zkey is a BLAKE3 digest"),
        ({"zkey": digest(1003)}, "not the one that it began with"),
    ],
)
def test_contributions_that_are_none(three: Given, changed: dict[str, Any], words: str) -> None:
    with refused(words):
        three.contribute("Dee", 4, **changed)


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "ü" * 33, "a\nb", "a\x00"])
def test_names_that_are_none(three: Given, name: str) -> None:
    with refused("1 to 64 bytes of printable text"):
        three.contribute(name, 4)


def test_a_name_counts_once(three: Given) -> None:
    with refused("Bo has contributed to this run"):
        three.contribute(" Bo ", 4)
    assert three.contribute("ü" * 32, 4).contributor == "ü" * 32


def test_a_beacon_comes_last_and_after_three(three: Given) -> None:
    two = Given()
    two.start(), two.contribute("Ada", 1), two.contribute("Bo", 2)
    with refused("2 have contributed: the beacon comes after 3", 409):
        two.seal(3)
    for changed, words in (
        ({"beacon": "7b" * 31}, "32 to 255 bytes"),
        ({"beacon": "7B" * 32}, "lower-case hex"),
        ({"iterations": 9}, "10 to 42"),
        ({"iterations": 43}, "10 to 42"),
    ):
        with refused(words):
            three.seal(4, **changed)
    with refused("begin again on the newest", 409):
        three.seal(4, base=digest(1002))
    three.seal(4)
    for step in (lambda: three.contribute("Dee", 5), lambda: three.seal(5)):
        with refused("is sealed: it takes no further contribution", 409):
            step()


def test_what_may_be_finished(three: Given) -> None:
    with refused("is open: only a sealed one", 409):
        three.finish(digest(1003))
    three.seal(4)
    with refused("your key has not found this run good", 409):
        three.finish(digest(1004))
    three.verified(digest(1004), by="somebody")
    with refused("your key has not found this run good", 409):
        three.finish(digest(1004))
    three.verified(digest(1004), good=False, fault=4, why="no")
    with refused("your key has not found this run good", 409):
        three.finish(digest(1004))
    three.verified(digest(1004))
    with refused("begin again", 409):
        three.finish(digest(1003))
    with refused("vk_hash is a BLAKE3"):
        three.finish(digest(1004), vk="f")
    assert three.finish(digest(1004))
    with refused("is finished: only a sealed one", 409):
        three.finish(digest(1004), vk="e" * 64)


def test_what_somebody_found_is_of_the_newest_key(three: Given) -> None:
    for fault, good, why in ((4, False, "x"), (-1, False, "x"), (1, True, ""), (0, True, "x")):
        with refused("fault is 0"):
            three.verified(digest(1003), good=good, fault=fault, why=why)
    for why in ("", " ", "x" * 501):
        with refused("say why"):
            three.verified(digest(1003), good=False, why=why)
    with refused("begin again", 409):
        three.verified(digest(1002))
    three.verified(digest(1003), by="a", good=False, fault=2, why=" it is bad ")
    three.verified(digest(1003), by="b")
    three.verified(digest(1003), by="a")
    assert [(check.by, check.good) for check in three.run.checks] == [("b", True), ("a", True)]
    for number in range(CHECKS_MAX + 5):
        three.verified(digest(1003), by=f"k{number}")
    assert len(three.run.checks) == CHECKS_MAX and three.run.checks[-1].by == f"k{CHECKS_MAX + 4}"


def test_a_new_run_takes_the_place_of_another(three: Given) -> None:
    with refused("run 1 of c is open, with 3 contributions", 409):
        three.start()
    three.start(again=True)
    assert three.run.run == 2
    for step in (lambda: three.contribute("Dee", 4), lambda: three.seal(4), lambda: three.finish(digest(1003))):
        with refused("run 1 of c was given up for run 2", 409):
            step()
    with refused("c has no run 3: its newest is 2", 404):
        three.contribute("Dee", 1, run=3)
    assert three.contribute("Ada", 1, run=2).number == 1, "names count in their run"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"circuit": "a.b"}, "letters, digits"),
        ({"circuit": "c" * 65}, "letters, digits"),
        ({"r1cs": "1"}, "r1cs is a BLAKE3"),
        ({"zkey": "1"}, "zkey is a BLAKE3"),
        ({"ptau": "9" * 64}, "BLAKE2b-512"),
        ({"powers": "a b"}, "published"),
    ],
)
def test_starts_that_are_none(changed: dict[str, Any], words: str) -> None:
    with refused(words):
        Given().start(**changed)


def test_nothing_is_without_limit() -> None:
    given = Given()
    for number in range(CIRCUITS_MAX):
        given.start(f"c{number}")
    with refused(f"{CIRCUITS_MAX} circuits", 409):
        given.start("c")
    given = Given()
    given.start()
    for number in range(1, CONTRIBUTIONS_MAX + 1):
        given.contribute(f"n{number}", number)
    with refused(f"{CONTRIBUTIONS_MAX} contributions", 409):
        given.contribute("one more", CONTRIBUTIONS_MAX + 1)
    for _ in range(RUNS_MAX - 1):
        given.start(again=True)
    with refused(f"{RUNS_MAX} runs", 409):
        given.start(again=True, zkey=digest(1))


def test_what_does_not_hold_is_void(three: Given) -> None:
    """Whoever wrote it: a chain in the fold is a chain, and its numbers count up."""
    before = three.run
    step = ("c", 1)
    for event in (
        ev.CeremonyStarted("c", 3, R1CS, PTAU, "", digest(1), "op"),
        ev.CeremonyContributed(*step, 4, "Dee", shown(1), digest(1002), digest(5), "k"),
        ev.CeremonyContributed(*step, 5, "Dee", shown(1), digest(1003), digest(5), "k"),
        ev.CeremonyContributed("c", 2, 4, "Dee", shown(1), digest(1003), digest(5), "k"),
        ev.CeremonyContributed("d", 1, 1, "Dee", shown(1), digest(1003), digest(5), "k"),
        ev.CeremonySealed(*step, VALUE, 10, shown(1), digest(1002), digest(5), "op"),
        ev.CeremonyVerified(*step, digest(1002), True, 0, "", "k"),
        ev.CeremonyFinished(*step, digest(1003), "f" * 64, "op"),
    ):
        three.then(event)
        assert three.run == before, event
    assert three.known.seqs["c"] == 12, "the next change expects what stands in the log"


def test_former_runs_are_read_from_their_rows(three: Given) -> None:
    projection = Projection(":memory:", TABLES, version=1)
    three.fold.load(projection)
    three.known.current["c"] = three.known.current.get("c") or three.run
    three.fold.flush = lambda: projection.commit(three.fold.rows(), len(three.log.events))
    former = three.run
    three.start(again=True)
    assert three.fold.run("c") == three.fold.run("c", 2) == three.run and three.fold.run("c", 3) is None
    found = three.fold.run("c", 1)
    assert found is not None and found.state == "replaced" and found.contributions == former.contributions
    fresh = CeremonyFold()
    fresh.load(projection)
    assert fresh.known.current == three.known.current and fresh.known.seqs == three.known.seqs
    assert fresh.run("c", 1) == found and fresh.run("d") is None


NAMES = ("Ada", "Bo", "Cyd", "Dee", "Eve")
WORDS = ("start", "step", "step", "step", "seal", "check", "finish")


def act(story: Given, word: str, number: int) -> None:
    """Something that fits the newest run, whatever it is."""
    known = story.known.current.get("c")
    run, base = (known.run, known.head) if known else (1, digest(0))
    made = {"base": base, "zkey": digest(10 * len(story.log.events) + 1 + number)}
    if word == "start":
        story.start(again=number == 4)
    elif word == "step":
        story.contribute(NAMES[number], 1, run, **made)
    elif word == "seal":
        story.seal(1, run, **made)
    elif word == "check" and known:
        story.verified(base, good=number < 3, why="" if number < 3 else "x")
    elif word == "finish":
        story.finish(base, run)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 4)), max_size=40))
def test_any_story_makes_one_chain_and_replays_to_the_same(story: list[tuple[str, int]]) -> None:
    given_ = Given()
    for word, number in story:
        with contextlib.suppress(Refused):
            act(given_, word, number)
    again = CeremonyFold()
    for recorded in given_.log.events:
        again.evolve(recorded)
    assert again.known.current == given_.known.current and again.known.seqs == given_.known.seqs
    for run in given_.known.current.values():
        keys = [run.zkey, *(one.zkey for one in run.contributions)]
        assert [one.base for one in run.contributions] == keys[:-1]
        assert [one.number for one in run.contributions] == list(range(1, len(keys)))
        assert len({one.contributor for one in run.contributions}) == len(run.contributions)
        if run.beacon is not None:
            assert run.beacon.base == keys[-1] and len(run.contributions) >= 3
        if run.finished_ms:
            assert run.beacon is not None
