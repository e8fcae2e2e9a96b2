"""What a job may ask for: a golden table of refusals, each saying what to change, and the EMA's warm-up bound."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_events import digest_of, matmul, matmul_f32, stream

from shardy_common import kinds, limits
from shardy_common.engine import Engine
from shardy_common.errors import Refused
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile

BIG = limits.SIDE_MAX


def pre(**more: Any) -> Pre:
    return Pre(**{"lo": -1.0, "hi": 1.0, **more})


def operand(**more: Any) -> Operand:
    return Operand(**{"digest": digest_of(1), "dtype": "int8", "rows": 8, "cols": 3, **more})


def with_a(**more: Any) -> JobSpec:
    return JobSpec("matmul", {"a": operand(**more), "b": operand(rows=4)})


GOOD = {
    "int8": matmul(),
    "int8 audit": matmul(policy="audit", redundancy=2, audit_rounds=8),
    "float32": matmul_f32(pre=pre(ema_axis=1, alpha=0.001)),
    "float32 down the rows": matmul_f32(pre=pre(ema_axis=0, alpha=0.5, segment_rows=4), task_rows=8),
    "stream": stream(pre=pre(scale="tensor")),
    "the longest inner length": JobSpec("matmul", {"a": operand(cols=65_535), "b": operand(cols=65_535)}),
    "the slowest filter": stream(pre=pre(ema_axis=0, alpha=0.0003)),
    "one row a task": matmul(task_rows=1),
    "the longest label": matmul(label="x" * 200),
    "the widest bounds": stream(pre=pre(lo=-(2.0**126), hi=2.0**126)),
}
REFUSED: dict[str, tuple[JobSpec, list[str]]] = {
    "unknown kind": (JobSpec("sort", {"a": operand()}), ["'sort'", "matmul, stream"]),
    "unknown policy": (matmul(policy="trust"), ["'trust'", "quorum, audit"]),
    "stream by audit": (stream(policy="audit"), ["cannot be audited", "quorum"]),
    "a missing operand": (JobSpec("matmul", {"a": operand()}), ["operands a, b"]),
    "an operand too many": (JobSpec("matmul", {n: operand() for n in "abc"}), ["operands a, b"]),
    "a stream of a": (JobSpec("stream", {"a": operand(dtype="float32")}, pre=pre()), ["operands x"]),
    "one replica": (matmul(redundancy=1), ["redundancy is 2 to 7"]),
    "eight replicas": (matmul(redundancy=8), ["redundancy is 2 to 7"]),
    "one audit round": (matmul(audit_rounds=1), ["audit_rounds is 2 to 8"]),
    "nine audit rounds": (matmul(audit_rounds=9), ["audit_rounds is 2 to 8"]),
    "a long label": (matmul(label="x" * 201), ["201 characters", "at most 200"]),
    "another dtype": (with_a(dtype="int16"), ["operand a", "'int16'", "int8 or float32"]),
    "an upper-case digest": (with_a(digest="AB" * 32), ["operand a's digest", "64 lower-case hex"]),
    "a short digest": (with_a(digest="ab"), ["64 lower-case hex"]),
    "no rows": (with_a(rows=0), ["operand a has 0 rows", f"1 to {BIG}"]),
    "negative columns": (with_a(cols=-1), ["-1 cols"]),
    "too many rows": (with_a(rows=BIG + 1), [f"{BIG + 1} rows", str(BIG)]),
    "too many bytes": (with_a(rows=BIG, cols=1025), [f"{BIG * 1025} bytes", "split it by rows"]),
    "two dtypes": (
        JobSpec("matmul", {"a": operand(), "b": operand(dtype="float32")}, pre=pre()),
        ["a is int8 and b is float32", "same dtype"],
    ),
    "two inner lengths": (with_a(cols=5), ["a has 5 columns and b has 3", "transpose"]),
    "a long inner length": (
        JobSpec("matmul", {"a": operand(cols=65_536), "b": operand(cols=65_536)}),
        ["k = 65536", "65535", "add the products"],
    ),
    "pre for int8": (matmul(pre=pre()), ["pre is for float32", "leave it out"]),
    "float32 without pre": (
        JobSpec("matmul", {n: operand(dtype="float32") for n in "ab"}),
        ["need pre", "lo and hi"],
    ),
    "an int8 stream": (JobSpec("stream", {"x": operand()}, pre=pre()), ["x is float32", "convert"]),
    "a stream without pre": (JobSpec("stream", {"x": operand(dtype="float32")}), ["needs pre"]),
    "lo over hi": (stream(pre=pre(lo=1.0, hi=-1.0)), ["lo < hi", "1.0 and -1.0"]),
    "lo equal to hi": (stream(pre=pre(lo=1.0)), ["lo < hi"]),
    "lo equal to hi once in float32": (stream(pre=pre(lo=1.0, hi=1.0 + 1e-12)), ["lo < hi"]),
    "bounds that are both zero in float32": (stream(pre=pre(lo=0.0, hi=1e-60)), ["lo < hi"]),
    "NaN bounds": (stream(pre=pre(lo=float("nan"))), ["finite"]),
    "infinite bounds": (stream(pre=pre(hi=float("inf"))), ["finite"]),
    "wide bounds": (stream(pre=pre(hi=2.0**126 * 1.01)), ["2¹²⁶", "overflow float32"]),
    "another axis": (stream(pre=pre(ema_axis=2)), ["ema_axis", "0 (down the rows)"]),
    "alpha 0": (stream(pre=pre(alpha=0.0)), ["alpha is over 0 and at most 1"]),
    "alpha over 1": (stream(pre=pre(alpha=1.5)), ["at most 1", "1.5"]),
    "alpha NaN": (stream(pre=pre(alpha=float("nan"))), ["alpha is over 0"]),
    "an alpha that is 0 in float32": (stream(pre=pre(alpha=1e-60, ema_axis=1)), ["alpha is over 0"]),
    "another scale": (stream(pre=pre(scale="column")), ["row or tensor"]),
    "segments far shorter than their warm-up": (
        stream(pre=pre(ema_axis=0, alpha=0.01, segment_rows=8)),
        ["remembers", "segment_rows ≥"],
    ),
    "empty segments": (stream(pre=pre(segment_rows=0)), ["segment_rows is 1 to"]),
    "endless memory": (stream(pre=pre(ema_axis=0, alpha=0.0001)), ["remembers", "65536", "alpha ≥ 0.0003"]),
    "no rows a task": (matmul(task_rows=0), ["positive multiple of 1"]),
    "a task that cuts a segment": (
        stream(pre=pre(ema_axis=0, alpha=0.5, segment_rows=4), task_rows=6),
        ["multiple of 4"],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_accepted_is_only_completed(name: str) -> None:
    spec = GOOD[name]
    done = kinds.checked(spec)
    assert kinds.checked(done) == done
    expected = spec.pre and msgspec.structs.replace(
        spec.pre, warm_rows=kinds.warm_rows(spec.pre.ema_axis, spec.pre.alpha)
    )
    assert done == msgspec.structs.replace(spec, pre=expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_change(name: str) -> None:
    spec, words = REFUSED[name]
    with pytest.raises(Refused) as caught:
        kinds.checked(spec)
    for word in words:
        assert word in caught.value.detail
    assert caught.value.status == (413 if "too many bytes" in name else 422)


def test_a_requesters_own_warm_rows_count_for_nothing() -> None:
    assert kinds.checked(stream(pre=pre(warm_rows=999))).pre == pre()


PRES = st.builds(
    Pre,
    st.floats(width=64),
    st.floats(width=64),
    st.sampled_from([-1, 1]),
    st.floats(0, 1) | st.sampled_from([1e-30, 1e-46, 5e-324]),
    st.just(4096),
    st.sampled_from(["row", "tensor"]),
)


@settings(max_examples=200)
@given(PRES)
def test_the_engine_takes_whatever_was_accepted(pre: Pre) -> None:
    """A job that the engine refuses would stop every auditor that meets it."""
    try:
        spec = kinds.checked(stream(2, 3, pre=pre))
    except Refused:
        return
    _engine().preexec(
        np.array([[0.5, -3, 9], [1, np.nan, -np.inf]], np.float32), row0=0, rows=2, **kinds.pre_params(spec.pre)
    )  # type: ignore[arg-type]


def _engine(made: list[Engine] = []) -> Engine:  # noqa: B006 - one engine for all examples
    if not made:
        made.append(Engine())
    return made[0]


# -- warm-up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.9, 0.5, 0.1, 0.01, 0.003])
def test_a_segments_warm_up_forgets_what_came_before(alpha: float) -> None:
    """Segmented and endless EMA differ by less than 2⁻²⁴ of the bounds' width, at the worst input there is."""
    warm = kinds.warm_rows(0, alpha)
    rows, start = 2 * warm + 40, warm + 20
    x = np.ones(rows)
    x[: start - warm] = -1.0  # as far from what follows as clamping allows, for as long as there is
    endless, segment = np.empty(rows), np.empty(rows)
    endless[0] = x[0]
    for t in range(1, rows):
        endless[t] = endless[t - 1] + alpha * (x[t] - endless[t - 1])
    segment[start - warm] = x[start - warm]
    for t in range(start - warm + 1, rows):
        segment[t] = segment[t - 1] + alpha * (x[t] - segment[t - 1])
    width = 2.0
    assert np.abs(endless - segment)[start:].max() < 2.0**-24 * width
    if warm > 2:
        before = np.abs(endless - segment)[start - max(warm // 8, 2)]
        assert before > 2.0**-26 * width, "not much longer than it has to be"


@settings(max_examples=200)
@given(st.floats(0.0003, 1))
def test_warm_rows_is_the_smallest_count_under_the_bound(alpha: float) -> None:
    warm = kinds.warm_rows(0, alpha)
    assert alpha == 1 or (1 - alpha) ** warm <= 2.0**-25 * (1 + 1e-9)
    assert warm == 0 or (1 - alpha) ** (warm - 1) > 2.0**-25 * (1 - 1e-9)
    assert kinds.warm_rows(1, alpha) == kinds.warm_rows(-1, alpha) == 0 == kinds.warm_rows(0, 1.0)


# -- leases -----------------------------------------------------------------------------------------------------------


def test_int8_slices() -> None:
    params = kinds.KINDS["matmul"].lease_params(matmul(8, 6, 5), Tile(2, 3, 4, 2))
    assert params["a"] == {"d": digest_of(1), "o": 10, "l": 15, "r": 3, "c": 5}
    assert params["b"] == {"d": digest_of(2), "o": 20, "l": 10, "r": 2, "c": 5}
    assert params["dtype"] == "int8" and params["k"] == 5 and "pre" not in params


def test_float_slices_begin_with_their_warm_up() -> None:
    spec = kinds.checked(matmul_f32(4000, 3000, 5, pre=pre(ema_axis=0, alpha=0.1, segment_rows=100)))
    warm = kinds.warm_rows(0, 0.1)
    params = kinds.KINDS["matmul"].lease_params(spec, Tile(1000, 200, 100, 100))
    assert params["a"] == {"d": digest_of(1), "o": (1000 - warm) * 20, "l": (200 + warm) * 20, "r": 200, "c": 5}
    assert params["b"] == {"d": digest_of(2), "o": 0, "l": 200 * 20, "r": 100, "c": 5}, "only so much lies before it"
    assert params["pre"]["warm_rows"] == warm and params["pre"]["row0_a"] == 1000 and params["pre"]["row0_b"] == 100


def test_stream_slices() -> None:
    spec = kinds.checked(stream(100, 7, pre=pre(ema_axis=0, alpha=0.9, segment_rows=10)))
    warm = kinds.warm_rows(0, 0.9)
    params = kinds.KINDS["stream"].lease_params(spec, Tile(50, 20, 0, 7))
    assert params["x"] == {"d": digest_of(1), "o": (50 - warm) * 28, "l": (20 + warm) * 28, "r": 20, "c": 7}
    assert params["rows"] == 20 and params["cols"] == 7 and params["pre"]["row0"] == 50


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.booleans())
def test_slices_lie_inside_their_operands_and_results_have_their_size(m: int, n: int, k: int, floats: bool) -> None:
    spec = kinds.checked(matmul_f32(m, n, k) if floats else matmul(m, n, k))
    kind = kinds.KINDS["matmul"]
    tile = Tile(m // 2, m - m // 2, n // 3, n - n // 3)
    params = kind.lease_params(spec, tile)
    item = 4 if floats else 1
    for name in ("a", "b"):
        assert params[name]["o"] >= 0 and params[name]["o"] + params[name]["l"] == spec.operands[name].rows * k * item
    assert kind.result_bytes(spec, tile.rows, tile.cols) == 4 * tile.cells + (4 * (tile.rows + tile.cols)) * floats
    assert next(part.shape for part in kind.parts(spec)) == (m, n)
