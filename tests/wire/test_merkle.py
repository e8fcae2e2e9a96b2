"""Leaves, roots and audit paths against RFC 9162 §2.1 written down as it is defined: recursively."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from shardy_common.wire import merkle

COUNTS = [*range(1, 18), 31, 32, 33, 100, 511, 512]


def leaves_of(count: int) -> list[bytes]:
    return [hashlib.sha256(str(i).encode()).digest() for i in range(count)]


def oracle_split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def oracle_root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = oracle_split(len(leaves))
    return blake3(b"\x01" + oracle_root(leaves[:k]) + oracle_root(leaves[k:])).digest()


def oracle_path(leaves: list[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = oracle_split(len(leaves))
    if index < k:
        return [*oracle_path(leaves[:k], index), oracle_root(leaves[k:])]
    return [*oracle_path(leaves[k:], index - k), oracle_root(leaves[:k])]


def test_a_leaf_hashes_what_the_protocol_says() -> None:
    digest = bytes(range(32))
    want = b"\x00" + b"shardy-result-v2" + b"\x00" + "l-é".encode() + b"\x00" + digest + (300).to_bytes(8, "little")
    assert merkle.leaf("l-é", digest, 300) == blake3(want).digest()


def test_a_leaf_depends_on_all_that_it_stands_for() -> None:
    digest = bytes(32)
    made = [
        merkle.leaf("l-1", digest, 4),
        merkle.leaf("l-2", digest, 4),
        merkle.leaf("l-1", digest, 5),
        merkle.leaf("l-1", b"\x01" + digest[1:], 4),
        merkle.leaf("l-1\x00", digest, 4),
    ]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(("digest", "size"), [(bytes(31), 1), (bytes(33), 1), (b"", 1)])
def test_refuses_what_is_no_digest(digest: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        merkle.leaf("l", digest, size)


@pytest.mark.parametrize("count", COUNTS)
def test_root_is_the_recursive_one(count: int) -> None:
    leaves = leaves_of(count)
    assert merkle.root(leaves) == oracle_root(leaves)
    assert merkle.root(tuple(leaves)) == oracle_root(leaves)
    assert leaves == leaves_of(count)


@pytest.mark.parametrize("count", COUNTS)
def test_every_leaf_climbs_to_the_root(count: int) -> None:
    leaves = leaves_of(count)
    for index in range(count) if count < 100 else (0, 1, 63, 64, count - 2, count - 1):
        path = merkle.path(leaves, index)
        assert path == oracle_path(leaves, index)
        assert merkle.climb(leaves[index], index, count, path) == oracle_root(leaves)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70), st.data())
def test_any_leaves_climb_to_their_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.path(leaves, index)
    assert path == oracle_path(leaves, index)
    assert merkle.climb(leaves[index], index, len(leaves), path) == merkle.root(leaves) == oracle_root(leaves)


@given(st.integers(2, 40), st.data())
def test_one_bit_changed_gives_another_root(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    index = data.draw(st.integers(0, count - 1))
    path, whole = merkle.path(leaves, index), merkle.root(leaves)
    hashes = [leaves[index], *path]
    which, bit = data.draw(st.integers(0, len(hashes) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(hashes[which])
    changed[bit // 8] ^= 1 << bit % 8
    hashes[which] = bytes(changed)
    assert merkle.climb(hashes[0], index, count, hashes[1:]) != whole


def test_leaves_in_another_order_give_another_root() -> None:
    roots = {merkle.root(order) for order in itertools.permutations(leaves_of(4))}
    assert len(roots) == 24


def test_another_place_gives_another_root_or_none() -> None:
    leaves = leaves_of(7)
    whole = merkle.root(leaves)
    for index, other in itertools.permutations(range(7), 2):
        path = merkle.path(leaves, index)
        try:
            assert merkle.climb(leaves[index], other, 7, path) != whole
        except ValueError:
            assert len(path) != len(merkle.path(leaves, other))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_refuses_a_path_of_another_length(count: int) -> None:
    leaves = leaves_of(count)
    for index in range(count):
        path = merkle.path(leaves, index)
        with pytest.raises(ValueError, match="too long"):
            merkle.climb(leaves[index], index, count, [*path, bytes(32)])
        if path:
            with pytest.raises(ValueError, match="too short"):
                merkle.climb(leaves[index], index, count, path[:-1])


@pytest.mark.parametrize(("index", "count"), [(-1, 3), (3, 3), (0, 0), (5, 2)])
def test_refuses_a_place_that_is_not_there(index: int, count: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.climb(bytes(32), index, count, [])
    with pytest.raises(ValueError, match="no leaf"):
        merkle.path(leaves_of(count), index)


def test_refuses_a_hash_of_another_length_and_no_leaves() -> None:
    leaves = leaves_of(2)
    with pytest.raises(ValueError, match="31 bytes"):
        merkle.climb(leaves[0], 0, 2, [leaves[1][:31]])
    with pytest.raises(ValueError, match="at least one leaf"):
        merkle.root([])
