"""The client on real sockets: what it sends, what it gives back, what it refuses before sending anything."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_api import KEY, FakeApi, Problem
from hypothesis import given
from hypothesis import strategies as st

from shardy_client import (
    AsyncMesh,
    FloatProduct,
    InvalidInput,
    JobFailed,
    JobTimeout,
    Mesh,
    MeshUnreachable,
    PreExec,
    Progress,
    Refused,
    ShardyError,
)
from shardy_client.arrays import NpyReader

RNG = np.random.default_rng(1)
PRE = PreExec(-1, 1)


def int8(rows: int, cols: int) -> np.ndarray:
    return RNG.integers(-128, 128, (rows, cols), np.int8)


def exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(np.int64) @ b.astype(np.int64)


def test_a_small_job_is_two_requests_on_one_connection(api: FakeApi, mesh: Mesh) -> None:
    a, b = int8(4, 6), int8(6, 5)
    c = mesh.matmul(a, b)
    assert c.dtype == np.int32 and np.array_equal(c, exact(a, b))
    assert api.requests == [("POST", "/v1/jobs"), ("GET", "/v1/jobs/j1/result/c")]
    assert len(api.connections) == 1
    submitted = api.jobs["j1"]["submitted"]
    assert submitted["policy"] == "quorum" and submitted["redundancy"] == 2 and "digest" not in submitted["a"]


def test_large_operands_are_uploaded_once(api: FakeApi, mesh: Mesh) -> None:
    a, b = int8(600, 500), int8(500, 700)
    for _ in range(2):
        assert np.array_equal(mesh.matmul(a, b), exact(a, b))
    assert [r[0] for r in api.requests].count("PUT") == 2
    assert api.jobs["j1"]["submitted"]["b"]["rows"] == 700, "B is stored n×k"


def test_a_large_and_a_small_operand_mix(api: FakeApi, mesh: Mesh) -> None:
    a, b = int8(2, 600), int8(600, 700)
    assert np.array_equal(mesh.matmul(a, b), exact(a, b))
    assert len(api.blobs) == 1


def test_b_stored_transposed_is_used_as_it_is(api: FakeApi, mesh: Mesh) -> None:
    a, b = int8(3, 8), int8(5, 8)
    assert np.array_equal(mesh.matmul(a, b, b_layout="nk"), exact(a, b.T))


def test_strided_views_are_taken(api: FakeApi, mesh: Mesh) -> None:
    a, b = int8(8, 12)[::2, ::3], int8(5, 4).T
    assert np.array_equal(mesh.matmul(a, b), exact(a, b))


def test_a_stored_operand_serves_many_jobs(api: FakeApi, mesh: Mesh) -> None:
    b = int8(600, 500)
    stored = mesh.put(b, transpose=True)
    for rows in (2, 3):
        a = int8(rows, 600)
        assert np.array_equal(mesh.matmul(a, stored), exact(a, b))
    assert (stored.rows, stored.cols) == (500, 600) and list(api.blobs) == [stored.digest]
    assert [method for method, _ in api.requests] == ["HEAD", "PUT", "POST", "GET", "POST", "GET"]
    with pytest.raises(InvalidInput, match="inner lengths"):
        mesh.matmul(int8(2, 7), stored)


def test_float_products_come_dequantised_or_in_parts(api: FakeApi, mesh: Mesh) -> None:
    a, b = RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=(4, 2)).astype(np.float32)
    d = mesh.matmul(a, b, pre=PRE)
    assert d.dtype == np.float32 and d.shape == (3, 2)
    parts = mesh.matmul(a, b, pre=PRE, parts=True)
    assert isinstance(parts, FloatProduct) and parts.c.dtype == np.int32 and parts.a_scale.shape == (3,)
    assert api.jobs["j1"]["submitted"]["pre"] == {
        "lo": -1, "hi": 1, "ema_axis": -1, "alpha": 1.0, "segment_rows": 4096, "scale": "row",
    }  # fmt: skip


def test_streams(api: FakeApi, mesh: Mesh) -> None:
    x = np.array([[1, 2], [3, np.nan]], np.float32)
    x[1, 1] = 4
    q, scale = mesh.stream(x, PRE)
    assert np.array_equal(q, [[1, 2], [3, 4]]) and scale.shape == (2,)


def test_progress_is_told_and_waiting_can_end(api: FakeApi, mesh: Mesh) -> None:
    api.steps = 2
    seen: list[Progress] = []
    mesh.matmul(int8(4, 6), int8(6, 5), progress=seen.append)
    assert [(p.state, p.cells_done) for p in seen] == [("running", 10), ("completed", 20)]
    api.steps = 10_000
    job = mesh.submit_matmul(int8(4, 6), int8(6, 5))
    with pytest.raises(JobTimeout, match="still running"):
        job.wait(timeout_s=0.05)
    assert job.cancel() is True and job.cancelled() and job.cancel() is True
    with pytest.raises(JobFailed, match="was cancelled"):
        job.wait()


def test_a_failed_job_says_why(api: FakeApi, mesh: Mesh) -> None:
    api.fail = "task t1 stayed unresolved"
    with pytest.raises(JobFailed, match="t1 stayed unresolved") as caught:
        mesh.matmul(int8(4, 6), int8(6, 5))
    assert caught.value.job["state"] == "failed"


def test_refusals_carry_the_meshs_own_words(api: FakeApi, mesh: Mesh) -> None:
    api.refuse = Problem(413, "too large: split it by rows", limit="16 MiB")
    with pytest.raises(Refused, match="split it by rows") as caught:
        mesh.jobs()
    assert caught.value.status == 413 and caught.value.limit == "16 MiB"
    api.refuse = None
    with Mesh(api.url, "wrong") as other, pytest.raises(Refused, match="SHARDY_KEY"):
        other.jobs()
    with pytest.raises(Refused, match="no job"):
        mesh.job("j99")


def test_an_absent_mesh_is_named() -> None:
    with Mesh("http://127.0.0.1:9", "k") as mesh, pytest.raises(MeshUnreachable, match="shardy up"):
        mesh.jobs()


def test_results_go_to_files_whole_or_not_at_all(api: FakeApi, mesh: Mesh, tmp_path: Path) -> None:
    job = mesh.submit_matmul(int8(4, 6), int8(6, 5))
    target = tmp_path / "c.npy"
    api.broken_result = b"short"
    with pytest.raises(ShardyError, match="not a whole"):
        job.save(target)
    api.refusals = [Problem(410, "the result's bytes are no longer stored")]
    with pytest.raises(Refused, match="no longer stored"):
        job.save(target)
    assert list(tmp_path.iterdir()) == []
    api.broken_result = None
    job.save(target)
    assert np.load(target).shape == (4, 5) and target.stat().st_mode & 0o077 == 0o044
    with pytest.raises(InvalidInput, match="cannot write"):
        job.save(tmp_path / "none" / "c.npy")
    with pytest.raises(InvalidInput, match="no part"):
        job.result(part="d")


def test_a_given_array_is_filled(api: FakeApi, mesh: Mesh) -> None:
    a, b = int8(4, 6), int8(6, 5)
    out = np.zeros((4, 5), np.int32)
    assert mesh.matmul(a, b, out=out) is out and np.array_equal(out, exact(a, b))
    with pytest.raises(InvalidInput, match="C-ordered int32"):
        mesh.matmul(a, b, out=np.zeros((5, 4), np.int32))


@pytest.mark.parametrize("body", [b"", b"hello", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + bytes(99)])
def test_results_that_are_no_arrays_are_refused(api: FakeApi, mesh: Mesh, body: bytes) -> None:
    api.broken_result = body
    with pytest.raises(ShardyError):
        mesh.matmul(int8(4, 6), int8(6, 5))


REFUSALS: list[tuple[Any, Any, dict[str, Any], str]] = [
    ([[1]], int8(1, 1), {}, "NumPy array"),
    (int8(2, 2).astype(np.int64), int8(2, 2), {}, r"int64.*\.astype\(numpy\.int8\)"),
    (int8(2, 2).astype(np.float64), int8(2, 2), {}, r"float64.*numpy\.float32"),
    (int8(2, 2)[0], int8(2, 2), {}, "1 dimensions"),
    (int8(2, 2)[:0], int8(2, 2), {}, "0×2"),
    (int8(2, 3), int8(2, 3), {}, "inner lengths differ.*b_layout"),
    (int8(2, 3), int8(3, 3).astype(np.float32), {"pre": PRE}, "both must be the same"),
    (int8(2, 3), int8(3, 3), {"pre": PRE}, "float32"),
    (int8(2, 3).astype(np.float32), int8(3, 3).astype(np.float32), {}, "need pre"),
    (np.zeros((1, 65_536), np.int8), np.zeros((65_536, 1), np.int8), {}, "65,535"),
    (np.zeros((1_048_577, 1), np.int8), int8(1, 1), {}, "1,048,576"),
    (np.lib.stride_tricks.as_strided(int8(1, 1), (40_000, 40_000), (0, 0)), int8(1, 1), {}, "1,073,741,824"),
    (int8(2, 2), int8(2, 2), {"policy": "trust"}, "'adaptive' or 'proof'"),
    (int8(2, 2), int8(2, 2), {"redundancy": 1}, "from 2 to 7"),
    (int8(2, 2), int8(2, 2), {"audit_rounds": 1}, "from 2 to 8"),
    (int8(2, 2), int8(2, 2), {"task_rows": 0}, "task_rows"),
    (int8(2, 2), int8(2, 2), {"b_layout": "T"}, "'kn'"),
    (int8(2, 2), int8(2, 2), {"label": "x" * 201}, "201 characters"),
]


@pytest.mark.parametrize(("a", "b", "more", "words"), REFUSALS)
def test_arguments_are_refused_before_anything_is_sent(
    api: FakeApi, mesh: Mesh, a: Any, b: Any, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        mesh.matmul(a, b, **more)
    assert api.requests == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lo": float("nan"), "hi": 1}, "NaN and infinite"),
        ({"lo": -1, "hi": float("inf")}, "NaN and infinite"),
        ({"lo": 1, "hi": 1}, "below"),
        ({"lo": -1e38, "hi": 1e39}, "2\\*\\*126"),
        ({"lo": "a", "hi": 1}, "numbers"),
        ({"lo": 0, "hi": 1, "ema_axis": 2}, "ema_axis"),
        ({"lo": 0, "hi": 1, "alpha": 0}, "alpha"),
        ({"lo": 0, "hi": 1, "segment_rows": 0}, "segment_rows"),
        ({"lo": 0, "hi": 1, "scale": "column"}, "scale"),
    ],
)
def test_pre_execution_is_checked(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        PreExec(**arguments)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x", "http://", ""])
def test_addresses_are_checked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDY_URL", "nonsense")
    with pytest.raises(InvalidInput, match="no address"):
        Mesh(url, "k")


def test_defaults_come_from_the_environment_and_the_folder(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDY_URL", api.url)
    monkeypatch.delenv("SHARDY_KEY", raising=False)
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "api_key").write_text(KEY + "\n")
    with Mesh() as mesh:
        assert mesh.jobs()["jobs"] == []


def test_an_upload_copies_no_operand(api: FakeApi, mesh: Mesh) -> None:
    big = np.zeros((4096, 4096), np.int8)
    big[::7, ::5] = 1
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    prepared = mesh._home.run(mesh._mesh._prepare("A", big, False))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert prepared.data is not None and np.shares_memory(np.frombuffer(prepared.data, np.int8), big)
    assert peak < 2 << 20


@given(st.data(), st.sampled_from(["int8", "int32", "float32"]), st.lists(st.integers(0, 5), min_size=1, max_size=2))
def test_npy_bodies_arrive_in_any_pieces(data: st.DataObject, dtype: str, shape: list[int]) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    file = io.BytesIO()
    np.save(file, array)
    body = file.getvalue()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    reader = NpyReader()
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        reader.feed(body[start:end])
    assert np.array_equal(reader.finish(), array)
    with pytest.raises(ShardyError):
        reader.feed(b"x")


async def test_the_asynchronous_client_runs_jobs_side_by_side(api: FakeApi) -> None:
    import asyncio

    pairs = [(int8(4, 6), int8(6, 5)) for _ in range(10)]
    async with AsyncMesh(api.url, KEY) as mesh:
        products = await asyncio.gather(*(mesh.matmul(a, b) for a, b in pairs))
    assert all(np.array_equal(c, exact(a, b)) for c, (a, b) in zip(products, pairs, strict=True))


def test_a_closed_mesh_says_so(api: FakeApi) -> None:
    mesh = Mesh(api.url, KEY)
    mesh.close()
    mesh.close()
    with pytest.raises(ShardyError, match="closed"):
        mesh.jobs()
