"""The module's surface: what it exports and refuses, and what it needs from a host."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wasmtime

from shardy_common.engine import Engine, module_bytes
from shardy_common.engine.calls import LOW_LEVEL, bind
from shardy_common.engine.module import wasm_engine

ROOT = Path(__file__).resolve().parents[2]
build: Any = importlib.import_module("build")
BAD_ARGUMENT, TOO_LARGE, BAD_BOUNDS = -1, -2, -3


def test_needs_no_imports_and_exports_what_the_page_says() -> None:
    module = wasmtime.Module(wasm_engine(disk_cache=False), module_bytes())
    assert list(module.imports) == []
    functions = {item.name for item in module.exports if isinstance(item.type, wasmtime.FuncType)}
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "engine-abi.md").read_text(), re.MULTILINE)
    documented = {name for row in table for name in re.findall(r"`(\w+)\(", row)}
    assert functions == documented
    assert "memory" in {item.name for item in module.exports}


def test_needs_simd128_and_nothing_newer() -> None:
    config = wasmtime.Config()
    for feature in ("relaxed_simd", "threads", "tail_call", "multi_memory", "memory64", "exceptions", "gc"):
        setattr(config, f"wasm_{feature}", False)
    assert wasmtime.Module(wasmtime.Engine(config), module_bytes())
    config = wasmtime.Config()
    config.wasm_relaxed_simd = False
    config.wasm_simd = False
    with pytest.raises(wasmtime.WasmtimeError):
        wasmtime.Module(wasmtime.Engine(config), module_bytes())


def test_manifest_fits_sources_and_module() -> None:
    assert build.mismatches() == []


def test_a_changed_module_or_manifest_is_noticed(tmp_path: Path) -> None:
    for name in (build.MODULE_NAME, build.MANIFEST_NAME):
        (tmp_path / name).write_bytes((build.TARGET_FOLDER / name).read_bytes())
    assert build.mismatches(tmp_path) == []
    module = bytearray(module_bytes())
    module[-1] ^= 1
    (tmp_path / build.MODULE_NAME).write_bytes(module)
    assert len(build.mismatches(tmp_path)) == 1
    (tmp_path / build.MODULE_NAME).unlink()
    assert build.mismatches(tmp_path)


def test_codes(engine: Engine) -> None:
    call = engine.instance.call
    with engine.alloc(4096) as room:
        p = room.ptr
        assert p % 64 == 0
        nan, inf = float("nan"), float("inf")
        for lo, hi in ((1.0, 1.0), (2.0, 1.0), (nan, 1.0), (0.0, nan), (-inf, 1.0), (0.0, inf), (0.0, 2.0**127)):
            assert call("clamp_f32", p, 4, lo, hi) == BAD_BOUNDS
            assert call("preexec_f32", p, 1, 0, 4, lo, hi, -1, 1.0, -1.0, p + 64, p + 128) == BAD_BOUNDS
        assert call("clamp_f32", 0, 4, 0.0, 1.0) == BAD_ARGUMENT
        assert call("clamp_f32", p + 1, 4, 0.0, 1.0) == BAD_ARGUMENT
        assert call("clamp_f32", p, 1 << 29, 0.0, 1.0) == TOO_LARGE
        assert call("clamp_f32", 0, 0, 0.0, 1.0) == 0
        for axis, alpha in ((2, 0.5), (-2, 0.5), (0, 0.0), (0, 1.5), (1, nan), (0, -0.5)):
            assert call("ema_f32", p, 2, 2, axis, alpha) == BAD_ARGUMENT
        assert call("quantise_f32", p, 1, 4, nan, p + 64, p + 128) == BAD_ARGUMENT
        assert call("quantise_f32", p, 1, 4, -1.0, p, p + 128) == BAD_ARGUMENT
        assert call("preexec_f32", p, 1, 2, 4, 0.0, 1.0, 0, 0.5, -1.0, p + 64, p + 128) == BAD_ARGUMENT
        assert call("preexec_f32", p, 1, 0, 4, 0.0, 1.0, 0, 0.5, -1.0, p + 8, p + 128) == BAD_ARGUMENT
        assert call("dequantise_i32", p, 2, 2, p + 64, p + 128, p) == BAD_ARGUMENT
        assert call("matmul_i8", p, p, p + 64, 1, 1, 65_535) == BAD_ARGUMENT  # C lies inside A
        assert call("matmul_i8", p, p, p + 512, 1, 1, 65_536) == TOO_LARGE
        assert call("matmul_i8", p, p, p + 64, 1 << 16, 1 << 16, 1) == TOO_LARGE
        assert call("matmul_i8", p, p + 64, p + 129, 1, 1, 1) == BAD_ARGUMENT
        assert call("packed_size", 9, 65_536) == 0
        assert call("packed_size", 9, 3) == 12 * 4 * 2
        assert call("pack_b", p, 9, 65_536, p + 64) == TOO_LARGE
        assert call("pack_b", p, 8, 8, p + 32) == BAD_ARGUMENT
        assert call("matmul_i8_packed", p, p + 64, p + 64, 1, 1, 2) == BAD_ARGUMENT
        assert call("freivalds_i8", p, p, p + 64, 1, 1, 1, p + 128, 0, p + 192) == BAD_ARGUMENT
        assert call("freivalds_i8", p, p, p + 64, 1, 1, 1, 0, 1, p + 192) == BAD_ARGUMENT
        assert call("freivalds_i8", p, p, p + 64, 1, 1, 65_536, p + 128, 1, p + 192) == TOO_LARGE
        assert call("blake3_hash", 0, 1, p) == BAD_ARGUMENT
        assert call("blake3_hash", 0, 0, p) == 0
        assert call("blake3_update", 0, p, 1) == BAD_ARGUMENT
        assert call("blake3_finish", 0, p) == BAD_ARGUMENT
    assert call("alloc_bytes", 0xFFFF_FFFF) == 0
    assert call("free_bytes", 0, 5) is None


def test_binding_refuses_with_value_errors(engine: Engine) -> None:
    a, x = np.zeros((2, 3), np.int8), np.zeros((4, 3), np.float32)
    rule: dict[str, Any] = {
        "row0": 0, "rows": 4, "warm_rows": 0, "segment_rows": 2, "lo": -1.0, "hi": 1.0, "ema_axis": 0, "alpha": 0.5,
        "scale": "row",
    }  # fmt: skip
    wrong: list[tuple[Any, ...]] = [
        (engine.matmul_i8, a.astype(np.int16), a),
        (engine.matmul_i8, a, a[0]),
        (engine.matmul_i8, a, a[:, :2]),
        (engine.matmul_i8, a.tolist(), a),
        (engine.matmul_i8, np.zeros((1, 65_536), np.int8), np.zeros((1, 65_536), np.int8)),
        (engine.freivalds, a, a, np.zeros((2, 3), np.int32), bytes(32)),
        (engine.freivalds, a, a, np.zeros((2, 2), np.int64), bytes(32)),
        (engine.freivalds, a, a, np.zeros((2, 2), np.int32), bytes(31)),
        (engine.freivalds, a, a, np.zeros((2, 2), np.int32), bytes(32), 0),
        (engine.clamp, a, 0, 1),
        (engine.clamp, x, 1, 0),
        (engine.clamp, x[:0], 1, 0),
        (engine.ema, x, 3, 0.5),
        (engine.ema, x, 0, 0.0),
        (engine.quantise, x, -2.0),
        (engine.quantise, x, float("nan")),
        (engine.dequantise, np.zeros((2, 3), np.int32), x[:, 0], x[0]),
        (engine.probe, bytes(31), 1, 1, 1, 1),
        (engine.probe, bytes(32), 1, 1, 65_536, 1),
    ]
    for function, *arguments in wrong:
        with pytest.raises(ValueError, match=r"."):
            function(*arguments)
    for change in (
        {"row0": 1},
        {"rows": 3},
        {"row0": -2},
        {"scale": "column"},
        {"lo": float("nan")},
        {"hi": float("inf")},
        {"hi": -1.0},
        {"alpha": 2.0},
        {"ema_axis": 5},
        {"segment_rows": 0},
    ):
        with pytest.raises(ValueError, match=r"."):
            engine.preexec(x, **(rule | change))
    packed = engine.pack_b(a)
    packed.free()
    with pytest.raises(ValueError, match="freed"):
        engine.matmul_packed(a, packed)


def test_memory_does_not_grow_over_repeated_calls() -> None:
    engine = Engine()
    rng = np.random.default_rng(1)
    a, b = rng.integers(-128, 128, (200, 300), dtype=np.int8), rng.integers(-128, 128, (150, 300), dtype=np.int8)
    x = rng.standard_normal((200, 300)).astype(np.float32)

    def once() -> None:
        c = engine.matmul_i8(a, b)
        assert engine.freivalds(a, b, c, bytes(32), 3) == []
        for axis in (-1, 0, 1):
            engine.preexec(
                x, row0=0, rows=200, warm_rows=10, segment_rows=40, lo=-1, hi=1, ema_axis=axis, alpha=0.1, scale="row"
            )
        engine.blake3(c)
        engine.probe(bytes(32), 40, 40, 40, 2)
        with pytest.raises(ValueError, match="bounds"):
            engine.clamp(x, 1, 0)

    once()
    before = engine.memory_bytes
    for _ in range(60):
        once()
    assert engine.memory_bytes == before


def test_large_operands_pass_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardy_common.engine.binding.BLOCK_BYTES", 1 << 20)
    engine = Engine()
    rng = np.random.default_rng(2)
    a, b = rng.integers(-128, 128, (60_000, 64), dtype=np.int8), rng.integers(-128, 128, (64, 64), dtype=np.int8)
    c = engine.matmul_i8(a, b)
    assert engine.freivalds(a, b, c, bytes(32), 2) == []
    engine.preexec(
        c.view(np.float32), row0=0, rows=60_000, warm_rows=50, segment_rows=1000, lo=-1, hi=1, ema_axis=0, alpha=0.1,
        scale="row",
    )  # fmt: skip
    # 19 MiB went through; what is kept is a few blocks and the packed B.
    assert engine.memory_bytes < 8 << 20


def test_views_show_the_memory_itself(engine: Engine) -> None:
    with engine.load(np.arange(12, dtype=np.int32).reshape(3, 4)) as buffer:
        buffer.array[2, 3] = -5
        assert buffer.view[44:].view(np.int32)[0] == -5
        engine.alloc(8 << 20).free()
        assert buffer.array[2, 3] == -5
        assert (buffer.shape, buffer.nbytes) == ((3, 4), 48)
    buffer.free()


@pytest.mark.parametrize("low_level", sorted({LOW_LEVEL, False}))
def test_calls_with_and_without_the_lower_layer(low_level: bool) -> None:
    compiler = wasm_engine(disk_cache=False)
    store = wasmtime.Store(compiler)
    text = """(module
        (func (export "add") (param i32 f32) (result f32)
            local.get 0 f32.convert_i32_u local.get 1 f32.add)
        (func (export "high") (result i32) i32.const -1)
        (func (export "none") (param i32))
        (func (export "fails") (param i32) (result i32) unreachable))"""
    exports = wasmtime.Instance(store, wasmtime.Module(compiler, text), []).exports(store)
    functions = {name: bind(store, item, low_level=low_level) for name, item in exports.items()}  # type: ignore[arg-type]
    assert functions["add"](0xFFFF_0000, 0.5) == np.float32(0xFFFF_0000)
    assert functions["add"](7, 0.5) == 7.5
    assert functions["high"]() == -1
    assert functions["none"](3) is None
    for _ in range(3):
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            functions["fails"](1)
    for wrong in ((), (1, 2), ("1",)):
        with pytest.raises((TypeError, wasmtime.WasmtimeError)):
            functions["none"](*wrong)
