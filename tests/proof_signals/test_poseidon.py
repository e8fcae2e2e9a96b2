"""Poseidon against published hashes, its own definition, and what it refuses."""

from __future__ import annotations

import pytest

from shardy_common.proofs.poseidon import P, parameters, permuted, poseidon, tree

# The hashes that circomlib's own test states, and that of Poseidon([1]) from its JavaScript twin.
PUBLISHED = [
    ([1], 18586133768512220936620570745912940619677854269274689475585506675881198879027),
    ([1, 2], 7853200120776062878684798364095072458815029376092732009249414926327459813530),
    ([3, 4], 14763215145315200506921711489642608356394854266165572616578112107564877678998),
    ([1, 2, 0, 0, 0], 1018317224307729531995786483840663576608797660851238720571059489595066344487),
    ([3, 4, 5, 10, 23], 13034429309846638789535561449942021891039729847501137143363028890275222221409),
]


@pytest.mark.parametrize(("inputs", "out"), PUBLISHED)
def test_published_hashes(inputs: list[int], out: int) -> None:
    assert poseidon(inputs) == out


@pytest.mark.parametrize("width", range(2, 14))
def test_parameters_are_fit_for_use(width: int) -> None:
    constants, matrix = parameters(width)
    flat = [value for row in constants for value in row]
    assert all(0 <= value < P for value in flat) and len(set(flat)) == len(flat)
    assert all(len(row) == width for row in (*constants, *matrix)) and len(matrix) == width
    # Of a matrix that mixes well no entry and no 2×2 minor is zero.
    for i in range(width):
        for j in range(i):
            for p in range(width):
                assert matrix[i][p]
                for q in range(p):
                    assert (matrix[i][p] * matrix[j][q] - matrix[i][q] * matrix[j][p]) % P


def test_the_first_input_is_zero_and_the_first_output_the_hash() -> None:
    assert poseidon([5, 6]) == permuted([0, 5, 6])[0]


@pytest.mark.parametrize("inputs", [[], list(range(13)), [P], [-1], [0, P]])
def test_refused(inputs: list[int]) -> None:
    with pytest.raises(ValueError):
        poseidon(inputs)


@pytest.mark.parametrize("width", [1, 14])
def test_widths_that_do_not_exist(width: int) -> None:
    with pytest.raises(ValueError, match="2 to 13"):
        parameters(width)


def test_trees_of_every_count_differ_from_each_other_and_in_order() -> None:
    counts = (1, 2, 3, 11, 12, 13, 14, 23, 24, 25)
    assert len({tree([7] * count) for count in counts}) == len(counts)
    for count in (2, 12, 13, 25):
        values = list(range(count))
        for index in range(count):
            other = [value + (place == index) for place, value in enumerate(values)]
            assert tree(other) != tree(values)
        assert tree(values[::-1]) != tree(values)
    with pytest.raises(ValueError, match="at least one"):
        tree([])
