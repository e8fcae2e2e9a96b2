"""The kept and the growing tree give what the one of the wire package gives."""

from __future__ import annotations

import pytest
from blake3 import blake3

from shardy_common.receipts import GrowingRoot, Tree
from shardy_common.wire import merkle

LEAVES = [blake3(bytes([i])).digest() for i in range(70)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 70])
def test_the_trees_agree(count: int) -> None:
    leaves = LEAVES[:count]
    tree, growing = Tree(leaves), GrowingRoot()
    for leaf in leaves:
        growing.add(leaf)
    assert growing.root() == merkle.root(leaves) and growing.count == count
    assert [tree.path(i) for i in range(count)] == [merkle.path(leaves, i) for i in range(count)]
    with pytest.raises(ValueError, match="no leaf"):
        tree.path(count)


def test_a_tree_of_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        GrowingRoot().root()
