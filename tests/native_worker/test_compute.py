"""From leases to bytes: every kind against the oracle, groups against single leases, and a worker that lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import oracle
import pytest
from blake3 import blake3
from fake_gateway import lease, operand
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_client.demo.liar import LyingComputer
from shardy_client.worker import kinds, measure, prepare
from shardy_client.worker.backends import DeviceLost, Interrupted, Kept
from shardy_client.worker.compute import ComputeError, Computer, group, run_batch
from shardy_client.worker.kinds import LeaseError
from shardy_client.worker.messages import Result, RunProbe, Work
from shardy_client.worker.wasm import WasmBackend

ENGINE = WasmBackend()
COMPUTER = Computer(ENGINE)


def work(name: str, p: dict[str, Any], data: Sequence[bytes], kind: str = "matmul", job: str = "j") -> Work:
    made = Work(lease(name, p, kind, job), kinds.parse(kind, p), 0, 0)
    made.data = list(data)
    return made


def int8_work(a: np.ndarray, b: np.ndarray, name: str = "l", job: str = "j") -> Work:
    k = a.shape[1]
    ids = [blake3(x.tobytes()).hexdigest() for x in (a, b)]
    p = {
        "dtype": "int8",
        "k": k,
        "a": operand(ids[0], 0, a.nbytes, len(a), k),
        "b": operand(ids[1], 0, b.nbytes, len(b), k),
    }
    return work(name, p, (a.tobytes(), b.tobytes()), job=job)


def matrices(rng: np.random.Generator, rows: int, cols: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(-128, 128, (rows, k), np.int8), rng.integers(-128, 128, (cols, k), np.int8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 130), st.integers(0, 2**32))
def test_int8_products_are_exact(rows: int, cols: int, k: int, seed: int) -> None:
    a, b = matrices(np.random.default_rng(seed), rows, cols, k)
    (data,) = COMPUTER.compute([int8_work(a, b)])
    assert bytes(data) == oracle.matmul(a, b).tobytes()


@pytest.mark.parametrize("value", [-128, 127])
def test_the_largest_sums_fit(value: int) -> None:
    a, b = np.full((2, 65_535), value, np.int8), np.full((3, 65_535), -128, np.int8)
    (data,) = COMPUTER.compute([int8_work(a, b)])
    assert bytes(data) == oracle.matmul(a, b).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 9),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from([1.0, 0.5, 0.9]),
    st.sampled_from(["row", "tensor"]),
    st.integers(1, 8),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_streams_are_byte_exact_however_they_are_split(
    rows: int, cols: int, axis: int, alpha: float, scale: str, segment: int, first: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 1, (rows, cols)) * 10.0 ** rng.integers(-30, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf, 0, -0.0, 1e-38])
    pre = {"lo": -1.5, "hi": 1.0, "ema_axis": axis, "alpha": alpha, "segment_rows": segment, "scale": scale}
    pre["warm_rows"] = oracle.warm_rows(axis, alpha)
    row0 = min(first * segment, (rows - 1) // segment * segment)
    count = rows - row0
    top = row0 - (min(pre["warm_rows"], row0) if axis == 0 else 0)
    p = {
        "dtype": "float32",
        "rows": count,
        "cols": cols,
        "x": operand("0" * 64, top * cols * 4, (rows - top) * cols * 4, count, cols),
        "pre": {**pre, "row0": row0},
    }
    (data,) = COMPUTER.compute([work("l", p, (x[top:].tobytes(),), "stream")])
    q, s = oracle.preexec(x, pre, row0, count)
    assert bytes(data) == s.tobytes() + q.tobytes()


def test_groups_give_what_single_leases_give() -> None:
    rng = np.random.default_rng(3)
    a, b = matrices(rng, 60, 20, 33)
    _, other = matrices(rng, 1, 20, 33)
    works = [int8_work(a[i : i + 3], b, f"l{i}") for i in range(0, 60, 3)]
    works += [int8_work(a[:2], other, "o1"), int8_work(a[2:4], other, "o2"), int8_work(a[4:6], other, "o3", job="k")]
    assert [len(run) for run in group(works)] == [20, 2, 1]
    outcomes = run_batch(COMPUTER, works)
    assert [taken.lease for taken, _ in outcomes] == [w.lease for w in works]
    for taken, outcome in outcomes:
        assert isinstance(outcome, Result)
        (alone,) = COMPUTER.compute([taken])
        assert bytes(outcome.data) == bytes(alone)
        assert outcome.header["digest"] == blake3(bytes(alone)).digest()
        assert outcome.header["len"] == len(bytes(alone)) and outcome.header["ms"] > 0


def test_large_products_are_not_stacked() -> None:
    rng = np.random.default_rng(4)
    a, b = matrices(rng, 400, 400, 8)
    assert [len(run) for run in group([int8_work(a, b, "1"), int8_work(a, b, "2")])] == [1, 1]


def test_the_probe_is_the_protocols() -> None:
    probe = RunProbe(bytes(range(32)), 33, 17, 100, 4, 64)
    assert prepare.chain(ENGINE, probe) == oracle.probe(bytes(range(32)), 33, 17, 100, 4)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError("full"), "oom"),
        (DeviceLost("gone"), "device-lost"),
        (Interrupted(), "internal"),
        (ComputeError("unsupported", "no"), "unsupported"),
        (ZeroDivisionError("bug"), "internal"),
    ],
)
def test_failures_become_codes(error: Exception, code: str) -> None:
    class Failing(Computer):
        def compute(self, works: Sequence[Work]) -> list[kinds.Bytes]:
            raise error

    a, b = matrices(np.random.default_rng(0), 2, 2, 2)
    (outcome,) = [o for _, o in run_batch(Failing(ENGINE, lambda: ENGINE), [int8_work(a, b)])]
    assert isinstance(outcome, ComputeError) and outcome.code == code


def test_a_lost_device_is_replaced() -> None:
    class Broken(WasmBackend):
        name = "wgpu"

        def matmul(self, *args: Any, **more: Any) -> Any:
            raise DeviceLost("gone")

    computer = Computer(Broken(), WasmBackend)
    a, b = matrices(np.random.default_rng(0), 2, 2, 2)
    first, second = (run_batch(computer, [int8_work(a, b)])[0][1] for _ in range(2))
    assert isinstance(first, ComputeError) and first.code == "device-lost"
    assert isinstance(second, Result) and second.header["backend"] == "wasm"


def test_a_stopped_engine_leaves_its_product() -> None:
    backend = WasmBackend()
    backend.stop()
    with pytest.raises(Interrupted):
        backend.matmul(np.ones((2, 2), np.int8), np.ones((2, 2), np.int8))


def test_the_liar_changes_one_element_of_each_result() -> None:
    rng = np.random.default_rng(5)
    a, b = matrices(rng, 12, 7, 16)
    works = [int8_work(a[i : i + 3], b, f"l{i}") for i in range(0, 12, 3)]
    for taken, outcome in run_batch(LyingComputer(ENGINE), works):
        assert isinstance(outcome, Result)
        assert outcome.header["digest"] == blake3(bytes(outcome.data)).digest(), "the digest fits the lie"
        right = oracle.matmul(*(np.frombuffer(d, np.int8).reshape(-1, 16) for d in taken.data))
        lie = np.frombuffer(outcome.data, np.int32).reshape(right.shape)
        assert (lie != right).sum() == 1 and np.abs(lie - right).sum() == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 65_536}, "65535"),
        ({"k": 4.0}, "k is 4.0"),
        ({"dtype": "int16"}, "int16"),
        ({"dtype": "float32"}, "pre"),
        ({"a": None}, "parameters"),
        ({"a": {"d": "x", "o": 0, "l": 4, "r": 1}}, "64 hex"),
        ({"a": operand("0" * 64, 0, 5, 1, 4)}, "5 bytes"),
        ({"a": operand("0" * 64, -1, 4, 1, 4)}, "whole"),
        ({"a": operand("0" * 64, 0, 4 << 30, 1 << 30, 4)}, "result"),
    ],
)
def test_parameters_are_checked(change: dict[str, Any], words: str) -> None:
    good = {
        "dtype": "int8",
        "k": 4,
        "a": operand("0" * 64, 0, 4, 1, 4),
        "b": operand("1" * 64, 0, 8, 2, 4),
    }
    kinds.parse("matmul", good)
    with pytest.raises(LeaseError, match=words):
        kinds.parse("matmul", {**good, **change})
    with pytest.raises(LeaseError, match="know"):
        kinds.parse("fold", good)


def test_kept_values_are_released_oldest_first() -> None:
    gone: list[str] = []
    kept = Kept(10, gone.append)
    assert kept.put("a", "A", 4) and kept.put("b", "B", 4) and not kept.put("c", "C", 11)
    assert kept.get("a") == "A" and kept.put("d", "D", 4)
    assert gone == ["B"] and kept.get("b") is None
    kept.clear()
    assert gone == ["B", "A", "D"] and kept.bytes == 0


def test_memory_is_touched_and_given_back() -> None:
    assert measure.touch_mib(70) == 70
    assert measure.free_mib() > 0


@pytest.mark.gpu
def test_an_adapter_gives_the_engines_bytes() -> None:
    gpu = pytest.importorskip("shardy_client.worker.gpu")
    try:
        adapter = gpu.GpuBackend(ENGINE)
    except gpu.NoAdapter as error:
        pytest.skip(str(error))
    prepare.self_test(adapter, ENGINE)
    rng = np.random.default_rng(6)
    a, b = matrices(rng, 300, 520, 129)
    for kernel in adapter._kernels:
        kernel.ops_per_slice = 1
    for _ in range(2):
        assert np.array_equal(adapter.matmul(a, b, "b"), oracle.matmul(a, b)), "in many slices, and B kept"
    adapter._binding_max = 64 * 1024
    assert np.array_equal(adapter.matmul(a, b), oracle.matmul(a, b)), "in blocks of A and B"
    adapter.stop()
    with pytest.raises(Interrupted):
        adapter.matmul(a, b)


@pytest.mark.gpu
def test_an_adapter_that_goes_wrong_later_hands_nothing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pytest.importorskip("shardy_client.worker.gpu")
    try:
        adapter = gpu.GpuBackend(ENGINE)
    except gpu.NoAdapter as error:
        pytest.skip(f"no adapter: {error}")
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-128, 128, (n, 40), dtype=np.int8) for n in (9, 17))
    right = adapter._block

    def wrong(*arguments: Any) -> np.ndarray:
        c = right(*arguments).copy()
        c[4, 2] += 1
        return c

    assert np.array_equal(adapter.matmul(a, b), a.astype(np.int32) @ b.astype(np.int32).T)
    monkeypatch.setattr(adapter, "_block", wrong)
    with pytest.raises(DeviceLost, match="wrong product"):
        adapter.matmul(a, b)
    with pytest.raises(DeviceLost):
        adapter.matmul(a, b)


@pytest.mark.gpu
def test_an_adapter_that_computes_wrongly_is_refused() -> None:
    class Wrong(WasmBackend):
        gpu = "a driver with a fault"

        def matmul(self, *args: Any, **more: Any) -> Any:
            c = super().matmul(*args, **more)
            c[-1, -1] += len(c) > 100
            return c

    with pytest.raises(DeviceLost, match="wrongly"):
        prepare.self_test(Wrong(), ENGINE)
