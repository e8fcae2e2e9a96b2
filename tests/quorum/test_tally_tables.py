"""The majority verdict: a table to read, a second algorithm, and symmetry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_quorum.tally import Agreed, Disputed, Pending, verdict

LINES = [
    line
    for line in (Path(__file__).parent / "testdata" / "verdicts.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
CASES = list(zip(LINES[::2], LINES[1::2], strict=True))


def show(outcome: Pending | Agreed | Disputed) -> str:
    return f"agreed {outcome.digest}" if isinstance(outcome, Agreed) else type(outcome).__name__.lower()


def by_sorting(votes: list[str], need: int, asked: int) -> str:
    """The same answer another way: sort, cut into runs, and look at the two longest."""
    runs = sorted(
        (-len(m[0].split()), m[0].split()[0]) for m in re.finditer(r"(\S+ )\1*", " ".join(sorted(votes)) + " ")
    )
    if runs and -runs[0][0] >= need:
        return "disputed" if len(runs) > 1 and runs[1][0] == runs[0][0] else f"agreed {runs[0][1]}"
    return "disputed" if len(votes) >= need and len(votes) >= asked else "pending"


@pytest.mark.parametrize(("command", "expected"), CASES, ids=[case[0] for case in CASES])
def test_the_table(command: str, expected: str) -> None:
    match = re.fullmatch(r"need=(\d) asked=(\d): (.+)", command)
    assert match is not None
    need, asked = int(match[1]), int(match[2])
    votes = [] if match[3] == "-" else match[3].split()
    assert show(verdict({f"l{i}": digest for i, digest in enumerate(votes)}, need, asked)) == expected
    assert by_sorting(votes, need, asked) == expected


def test_the_table_shows_every_verdict() -> None:
    assert {expected.split()[0] for _, expected in CASES} == {"pending", "agreed", "disputed"} and len(CASES) > 20


VOTES = st.lists(st.sampled_from(["aa", "bb", "cc", "dd"]), max_size=9)


@settings(max_examples=300)
@given(VOTES, st.integers(1, 7), st.integers(1, 9), st.randoms())
def test_votes_commute_names_do_not_matter_and_two_algorithms_agree(
    votes: list[str], need: int, asked: int, rng: object
) -> None:
    outcome = show(verdict({f"l{i}": digest for i, digest in enumerate(votes)}, need, asked))
    assert outcome == by_sorting(votes, need, asked)
    shuffled = list(votes)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert show(verdict({f"x{i}": digest for i, digest in enumerate(shuffled)}, need, asked)) == outcome
    renamed = {f"l{i}": "zyxw"[ord(digest[0]) - ord("a")] for i, digest in enumerate(votes)}
    other = show(verdict(renamed, need, asked))
    assert other.split()[0] == outcome.split()[0]


@given(VOTES, st.integers(2, 7), st.integers(1, 9), st.sampled_from(["aa", "bb"]))
def test_one_more_vote_for_the_winner_changes_nothing(votes: list[str], need: int, asked: int, more: str) -> None:
    outcome = verdict(dict(enumerate(votes)), need, asked)  # type: ignore[arg-type]
    if isinstance(outcome, Agreed):
        assert verdict(dict(enumerate([*votes, outcome.digest])), need, asked) == outcome  # type: ignore[arg-type]
        assert votes.count(outcome.digest) >= need
