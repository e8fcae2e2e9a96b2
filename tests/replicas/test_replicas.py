"""Who owns what: one owner for each id whoever looks, and only a leaver's ids move."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shardy_common.replicas import SILENCE_S, Replicas, owner

NAMES = st.sets(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), min_size=1, max_size=6)
KEYS = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=40, unique=True)


def view(me: str, names: set[str]) -> Replicas:
    replicas = Replicas(me)
    for name in names:
        replicas.heard(name, 0.0)
    return replicas


@given(NAMES, KEYS)
def test_every_id_has_exactly_one_owner_and_all_agree(names: set[str], keys: list[str]) -> None:
    views = [view(name, names) for name in names]
    for key in keys:
        assert [v.me for v in views if v.owns(key)] == [owner(sorted(names), key)]
        assert owner(sorted(names), key) == owner(sorted(names, reverse=True), key)


@given(NAMES.filter(lambda names: len(names) > 1), KEYS)
def test_only_the_ids_of_a_leaver_move(names: set[str], keys: list[str]) -> None:
    for gone in names:
        for key in keys:
            before = owner(names, key)
            after = owner(names - {gone}, key)
            assert after == before if before != gone else after in names - {gone}


@given(NAMES, KEYS, st.data())
def test_ownership_follows_the_view_however_it_came_about(
    names: set[str], keys: list[str], data: st.DataObject
) -> None:
    """Heard, silent, goodbye, in any order: what is owned depends on who is there now, and on nothing else."""
    me = sorted(names)[0]
    replicas, now = Replicas(me), 0.0
    here: dict[str, float] = {}
    for _ in range(data.draw(st.integers(1, 12))):
        name, verb = data.draw(st.sampled_from(sorted(names))), data.draw(st.sampled_from(["alive", "bye", "wait"]))
        was = replicas.names
        if verb == "alive":
            changed = replicas.heard(name, now)
            if name != me:
                here[name] = now
        elif verb == "bye":
            changed = replicas.left(name)
            here.pop(name, None)
        else:
            now += data.draw(st.sampled_from([1.0, 2.0, 3.5]))
            changed = replicas.sweep(now)
            here = {n: at for n, at in here.items() if now - at <= SILENCE_S}
        assert replicas.names == tuple(sorted({me, *here}))
        assert changed == (replicas.names != was)
        assert [replicas.owns(k) for k in keys] == [owner({me, *here}, k) == me for k in keys]


def test_alone_it_owns_everything() -> None:
    assert all(Replicas("0").owns(key) for key in ("", "a", "j0000"))


def test_silence_is_counted_to_the_second() -> None:
    replicas = Replicas("0")
    assert replicas.heard("1", 10.0) and not replicas.heard("1", 11.0)
    assert not replicas.sweep(11.0 + SILENCE_S) and replicas.names == ("0", "1")
    assert replicas.sweep(11.0 + SILENCE_S + 0.001) and replicas.names == ("0",)
    assert not replicas.left("1")


def test_shares_are_about_even() -> None:
    """4,000 ids over four: a fair coin's share is 1,000 ± 27 (one standard deviation); six of those are allowed."""
    counts = Counter(owner(("0", "1", "2", "3"), f"j{number:017d}") for number in range(4_000))
    assert all(abs(count - 1_000) < 6 * 27.4 for count in counts.values()), counts


def test_many_ids_are_remembered_within_bounds(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("shardy_common.replicas.KNOWN_MAX", 10)
    replicas = view("0", {"0", "1"})
    for _ in range(2):
        assert [replicas.owns(f"k{i}") for i in range(50)] == [owner(("0", "1"), f"k{i}") == "0" for i in range(50)]
    assert len(replicas._owned) <= 10
