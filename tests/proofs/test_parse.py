"""The strict parser: one spelling of everything, and every other one refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import fuzz
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proofkit import Known, proof_json

from shardy_common.proofs.parse import Q, R, parse_proof, parse_publics, parse_vkey


def edit(data: bytes, change: Callable[[Any], object]) -> bytes:
    found = json.loads(data)
    change(found)
    return json.dumps(found).encode()


def put(*path: object, value: object) -> Callable[[Any], object]:
    def change(found: Any) -> None:
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value

    return change


BAD_NUMBERS = [
    "-1",
    "+1",
    "01",
    "00",
    "",
    " 1",
    "1 ",
    "1e3",
    "0x1",
    "1.0",
    "1_0",
    "\u0661",
    str(Q),
    "9" * 78,
    1,
    1.5,
    None,
    [1],
]


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("path", [("pi_a", 0), ("pi_b", 0, 1), ("pi_b", 1, 0), ("pi_c", 1)])
def test_numbers(known: Known, number: object, path: tuple[object, ...]) -> None:
    with pytest.raises(ValueError):
        parse_proof(edit(known.proof_json, put(*path, value=number)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("pi_a", 2), "2"), (("pi_a", 2), "0"), (("pi_a", 2), 1), (("pi_b", 2), ["1", "1"]), (("pi_b", 2), ["2", "0"]),
        (("pi_b", 2), "1"), (("pi_c", 2), "01"), (("protocol",), "plonk"), (("protocol",), None),
        (("curve",), "bls12381"),
        (("curve",), "bn254"), (("extra",), 1), (("pi_a",), []), (("pi_a",), ["1", "2"]), (("pi_b",), ["1", "2", "1"]),
        (("pi_a",), {"0": "1"}), (("pi_c",), "111"),
    ],
)  # fmt: skip
def test_form(known: Known, path: tuple[object, ...], value: object) -> None:
    with pytest.raises(ValueError):
        parse_proof(edit(known.proof_json, put(*path, value=value)))


@pytest.mark.parametrize("name", ["pi_a", "pi_b", "pi_c", "protocol", "curve"])
def test_missing(known: Known, name: str) -> None:
    with pytest.raises(ValueError, match=f"lacks {name}"):
        parse_proof(edit(known.proof_json, lambda found: found.pop(name)))


def test_text(known: Known) -> None:
    data = known.proof_json
    assert parse_proof(b"  " + data + b"\n") == known.proof
    doubled = data.rstrip()[:-1] + b', "curve": "bn128"}'
    for text, reason in (
        (b"", "must be JSON"), (data[:-3], "must be JSON"), (data + b"{}", "must be JSON"),
        (b"\xef\xbb\xbf" + data, "must be JSON"),
        (data.replace(b"bn128", b"bn\xff128"), "UTF-8"), (data.decode().encode("utf-16"), "must be UTF-8|nested"),
        (doubled, "twice"),
        (data + b" " * 4096, "at most 4,096 bytes"), (b"[" * 4000, "nested"), (b"[" * 4000 + b"]" * 90, "nested"),
        (b'{"a":' * 600, "nested"), (b"NaN", "in strings"), (b"-0", "in strings"), (b"1" * 4000, "in strings"),
        (b"[]", "object"), (b'"x"', "object"), (b"null", "object"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            parse_proof(text)


HIDING = [b"", rb'"\"\\", ', rb'"\\", ', rb'"\\\"", ', rb'"\u0022", ', b'"' + b"]" * 1800 + b'", ', b'"\n", ']


@pytest.mark.parametrize("parse", [parse_proof, parse_publics, parse_vkey])
@pytest.mark.parametrize("head", HIDING, ids=range(len(HIDING)))
def test_no_string_hides_depth(parse: Callable[[bytes], object], head: bytes) -> None:
    """The JSON parser recurses on brackets, so none may pass for a part of a string, or be made up for by one."""
    for close in (b' "a"', b'"', b"]" * 200 + b' "a"'):
        with pytest.raises(ValueError, match=r"nested|backslash|control character"):
            parse(b"[" + head + b"[" * 1800 + close)
    with pytest.raises(ValueError):
        parse((b'["]", ' * 1800)[:4000])


def test_every_cut_is_refused(known: Known) -> None:
    whole = known.proof_json.rstrip()
    for cut in range(len(whole)):
        with pytest.raises(ValueError):
            parse_proof(whole[:cut])


def test_publics() -> None:
    assert parse_publics(b'["0", "5"]') == [0, 5]
    assert parse_publics(json.dumps([str(R - 1)] * 64).encode()) == [R - 1] * 64
    for text in (b'["%d"]' % R, b"[1]", b'["-0"]', b'{"0": "1"}', json.dumps(["1"] * 65).encode(), b'[["1"]]'):
        with pytest.raises(ValueError):
            parse_publics(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nPublic",), 3), (("nPublic",), True), (("nPublic",), "4"), (("nPublic",), -1), (("nPublic",), 65),
        (("IC",), []), (("IC", 0, 2), "2"), (("vk_beta_2", 2), ["0", "0"]), (("vk_alpha_1", 0), str(Q)),
        (("curve",), "bls12381"), (("protocol",), "fflonk"), (("note",), 1), (("shardy", "dev"), False),
        (("shardy", "dev"), 1), (("shardy", "more"), 1), (("shardy", "circuit"), 1), (("shardy",), None),
    ],
)  # fmt: skip
def test_keys(known: Known, path: tuple[object, ...], value: object) -> None:
    with pytest.raises(ValueError):
        parse_vkey(edit(known.vkey_json, put(*path, value=value)))


def test_a_development_key_says_so(known: Known) -> None:
    assert known.key.dev
    assert not parse_vkey(edit(known.vkey_json, lambda found: found.pop("shardy"))).dev
    # snarkjs adds e(α, β), which is not trusted and so not read.
    assert parse_vkey(edit(known.vkey_json, put("vk_alphabeta_12", value=[]))) == known.key


def test_what_is_written_is_read_again(known: Known) -> None:
    assert parse_proof(proof_json(known.proof).encode()) == known.proof


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_anything(data: bytes) -> None:
    for parse in (parse_proof, parse_publics, parse_vkey):
        try:
            found = parse(data)
        except ValueError:
            continue
        assert isinstance(found, list)  # only a list of signals is so short


def test_mutations(known: Known) -> None:
    counts = fuzz.run(20_000, seed=7)
    assert sum(counts.values()) == 20_000 and min(counts.values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_mutations() -> None:
    counts = fuzz.run(1_000_000, seed=1)
    assert sum(counts.values()) == 1_000_000 and min(counts.values()) > 0
