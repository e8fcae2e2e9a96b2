"""Matrices in files: what is read, what is refused and why, what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_api import FakeApi
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from shardy_client import InvalidInput, Mesh, load
from shardy_client.files import safetensors_head, split

A = np.arange(24, dtype=np.int8).reshape(4, 6)
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_files_are_mapped_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    save_file({"a": A, "x": X, "bias": np.zeros(3, np.float32)}, tmp_path / "m.safetensors", {"made": "by us"})
    for found, wanted in (
        (load(tmp_path / "a.npy"), A),
        (load(f"{tmp_path}/m.safetensors:a"), A),
        (load(tmp_path / "m.safetensors", "x"), X),
    ):
        assert isinstance(found, np.memmap) and found.dtype == wanted.dtype and np.array_equal(found, wanted)


def test_the_name_may_be_left_out_where_there_is_one_matrix(tmp_path: Path) -> None:
    save_file({"x": X, "bias": np.zeros(3, np.float32)}, tmp_path / "one.safetensors")
    assert np.array_equal(load(tmp_path / "one.safetensors"), X)
    save_file({"a": A, "x": X}, tmp_path / "two.safetensors")
    with pytest.raises(InvalidInput, match=r"holds 2 matrices; write .*:NAME with one of: a \(I8 4×6\), x \(F32 3×4\)"):
        load(tmp_path / "two.safetensors")
    with pytest.raises(InvalidInput, match=r"has no tensor 'y'; .*a .I8"):
        load(f"{tmp_path}/two.safetensors:y")


def test_names_are_bounded_in_the_message(tmp_path: Path) -> None:
    save_file({f"t{n}": X for n in range(50)}, tmp_path / "m.safetensors")
    with pytest.raises(InvalidInput, match=r"and 30 more$") as caught:
        load(tmp_path / "m.safetensors")
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "size", "words"),
    [
        ("F16", 2, r"F16 2×2.*float32.*safetensors\.numpy"),
        ("BF16", 2, r"NumPy has no such type.*x\.float\(\).*safetensors\.torch"),
        ("F64", 8, "astype"),
        ("F8_E4M3", 1, "store it as float32"),
    ],
)
def test_other_types_say_how_to_convert(tmp_path: Path, code: str, size: int, words: str) -> None:
    entry = {"w": {"dtype": code, "shape": [2, 2], "data_offsets": [0, 4 * size]}}
    path = raw(tmp_path / "m.safetensors", entry, bytes(4 * size))
    with pytest.raises(InvalidInput, match=words):
        load(path)
    half = tmp_path / "half.npy"
    np.save(half, X.astype(np.float16))
    with Mesh("http://127.0.0.1:9", "k") as mesh, pytest.raises(InvalidInput, match="float32"):
        mesh.put(load(half))


ENTRY = {"dtype": "I8", "shape": [2, 2], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"no json", b""),
        (b"[1]", b""),
        (b'{"a": 1}', b""),
        (b"[" * 100_000, b""),
        ({"a": {**ENTRY, "data_offsets": [0, 400]}}, bytes(4)),
        ({"a": {**ENTRY, "data_offsets": [-4, 0]}}, bytes(4)),
        ({"a": {**ENTRY, "shape": [2, 3]}}, bytes(4)),
        ({"a": {**ENTRY, "shape": [2, 2.0]}}, bytes(4)),
        ({"a": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, bytes(4)),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, header: Any, data: bytes) -> None:
    with pytest.raises(InvalidInput, match="is no safetensors file"):
        load(raw(tmp_path / "m.safetensors", header, data))
    (tmp_path / "short.safetensors").write_bytes(b"\xff" * 7)
    (tmp_path / "long.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    for name in ("short", "long", "absent"):
        with pytest.raises(InvalidInput, match=r"is no safetensors|there is no file"):
            load(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("text", "file", "name"),
    [
        ("a.npy", "a.npy", ""),
        ("a.safetensors", "a.safetensors", ""),
        ("b/a.safetensors:model.layers.0:w", "b/a.safetensors", "model.layers.0:w"),
        ("c:/a.npy", "c:/a.npy", ""),
        ("a.safetensors:", "a.safetensors", ""),
    ],
)
def test_names_are_split_from_files(text: str, file: str, name: str) -> None:
    assert split(text) == (Path(file), name)


def test_results_are_saved_as_tensors(api: FakeApi, mesh: Mesh, tmp_path: Path) -> None:
    b = np.ones((6, 5), np.int8)
    job = mesh.submit(A, b)
    size = job.save(f"{tmp_path}/c.safetensors:product")
    assert size == (tmp_path / "c.safetensors").stat().st_size
    assert np.array_equal(load_file(tmp_path / "c.safetensors")["product"], A.astype(int) @ b)
    job.save(tmp_path / "d.safetensors")
    assert list(load_file(tmp_path / "d.safetensors")) == ["c"]
    api.broken_result = b"\x93NUMPY"
    with pytest.raises(Exception, match="result"):
        job.save(tmp_path / "e.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"c.safetensors", "d.safetensors"}


@given(st.text(min_size=1, max_size=40), st.sampled_from(["int8", "int32", "float32"]), st.integers(1, 9))
def test_the_header_is_the_formats_own(tmp_path_factory: pytest.TempPathFactory, name: str, kind: str, n: int) -> None:
    array = np.arange(2 * n).astype(kind).reshape(2, n)
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    if name == "__metadata__":
        return
    path.write_bytes(safetensors_head(name, kind, array.shape) + array.tobytes())
    assert np.array_equal(load_file(path)[name], array)
