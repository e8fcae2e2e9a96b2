"""The form of verification keys: what has one, what has none, and that a key has one text whoever writes it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3
from made_keys import NOTE, made_vk

from shardy_common.proofs.parse import Q
from shardy_common.verifiers import VK_BYTES_MAX, checked_key
from shardy_common.verifiers.keys import PUBLIC_MAX


def test_one_text_however_it_was_written() -> None:
    vk = made_vk(1)
    key = checked_key(vk)
    shuffled = json.loads(json.dumps(dict(reversed(vk.items())), indent=3))
    assert checked_key(shuffled) == key
    assert key.vk_hash == blake3(key.vk.encode()).hexdigest() and checked_key(json.loads(key.vk)) == key
    assert " " not in key.vk and list(json.loads(key.vk)) == sorted(vk)
    assert not key.dev and checked_key(made_vk(2)).vk_hash != key.vk_hash


def test_a_key_of_our_generator_says_that_it_is_for_development() -> None:
    marked = checked_key(made_vk(1, shardy=NOTE))
    assert marked.dev and marked.vk_hash != checked_key(made_vk(1)).vk_hash
    assert not checked_key(made_vk(1)).dev


def test_the_largest_key() -> None:
    assert len(checked_key(made_vk(1, public=PUBLIC_MAX)).vk) <= VK_BYTES_MAX
    room = VK_BYTES_MAX - len(checked_key(made_vk(1, shardy={**NOTE, "circuit": ""})).vk)
    assert len(checked_key(made_vk(1, shardy={**NOTE, "circuit": "x" * room})).vk) == VK_BYTES_MAX
    with pytest.raises(ValueError, match="at most 8192 bytes"):
        checked_key(made_vk(1, shardy={**NOTE, "circuit": "x" * (room + 1)}))


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(vk: Any) -> None:
        for step in path[:-1]:
            vk = vk[step]
        vk[path[-1]] = to

    return change


def _deep(vk: Any) -> None:
    for _ in range(10_000):
        vk["shardy"] = {"more": vk.get("shardy", {})}


CHANGES: dict[str, Callable[[Any], None]] = {
    "another protocol": _set("protocol", to="plonk"),
    "another curve": _set("curve", to="bls12381"),
    "no publics": _set("nPublic", to=0),
    "publics as text": _set("nPublic", to="4"),
    "publics as a truth": _set("nPublic", to=True),
    "too many publics": _set("nPublic", to=PUBLIC_MAX + 1),
    "a point less": lambda vk: vk["IC"].pop(),
    "a point more": lambda vk: vk["IC"].append(vk["IC"][0]),
    "points that are no list": _set("IC", to="points"),
    "no alpha": lambda vk: vk.pop("vk_alpha_1"),
    "a strange name": _set("vk_epsilon_1", to=[]),
    "z is 2": _set("vk_alpha_1", 2, to="2"),
    "z is a number": _set("vk_alpha_1", 2, to=1),
    "z of G2": _set("vk_beta_2", 2, to=["1", "1"]),
    "two coordinates": _set("IC", 1, to=["1", "1"]),
    "a number": _set("vk_alpha_1", 0, to=5),
    "a leading zero": _set("vk_alpha_1", 0, to="05"),
    "a sign": _set("vk_alpha_1", 0, to="+5"),
    "less than nothing": _set("vk_alpha_1", 0, to="-5"),
    "an exponent": _set("vk_alpha_1", 0, to="1e3"),
    "white space": _set("vk_alpha_1", 0, to="5 "),
    "other digits": _set("vk_alpha_1", 0, to="٥"),
    "nothing": _set("vk_alpha_1", 0, to=""),
    "the field's order": _set("vk_alpha_1", 0, to=str(Q)),
    "a long decimal": _set("vk_alpha_1", 0, to="1" * 5_000),
    "a G2 pair of three": _set("vk_gamma_2", 0, to=["1", "2", "3"]),
    "a G2 coordinate": _set("vk_delta_2", 1, 1, to="x"),
    "a mark that is none": _set("shardy", to="dev"),
    "dev as text": _set("shardy", to={**NOTE, "dev": "no"}),
    "dev that is not": _set("shardy", to={**NOTE, "dev": False}),
    "a mark without its circuit": _set("shardy", to={"dev": True}),
    "an escape": _set("shardy", to={**NOTE, "circuit": "é"}),
    "a fraction": _set("shardy", to={**NOTE, "seed_tag": 0.5}),
    "a fraction in what is not read": _set("vk_alphabeta_12", to=[0.5]),
    "too deep": _deep,
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_no_key(what: str) -> None:
    vk = copy.deepcopy(made_vk(1))
    CHANGES[what](vk)
    with pytest.raises(ValueError, match=r"[a-z]"):
        checked_key(vk)


def test_the_bounds_of_a_coordinate() -> None:
    for value in ("0", str(Q - 1)):
        vk = made_vk(1)
        vk["vk_alpha_1"][0] = value
        assert checked_key(vk).vk


@pytest.mark.parametrize("value", [None, [], "vk", 3, True, {}])
def test_what_is_no_object_with_names(value: Any) -> None:
    with pytest.raises(ValueError, match="a verification key"):
        checked_key(value)
