#!/usr/bin/env python3
"""Write vectors/engine.json: inputs and expected bytes of every engine function, from the NumPy oracle alone.

The file's shape, for readers in any language:

    {"cases": [{"name": …, "function": …, "args": {…}, "want": {…}}, …]}

A value in `args` that is a map is an array: `type` (i8, i32, f32, u8), `shape`, and its bytes as one of
`hex` (little-endian, row-major), `xof` (the first bytes of BLAKE3-XOF over the UTF-8 text), `fill` (every element
this number), `ramp` (byte i is i mod 251). In `want`, bytes are `{"hex": …}` or, when long, `{"blake3": digest}`.

    clamp       x, lo, hi                       → y
    ema         x, axis, alpha                  → y
    quantise    x, tensor_absmax (−1: per row)  → q, scale
    dequantise  c, a_scale, b_scale             → d
    preexec     x, splits [[row0, rows], …], …  → q, scale; each split of the whole gives its rows of both
    matmul      a, b                            → c
    freivalds   a, b, edits [[row, column, delta], …], seed, rounds → bad (rows); C is the right product plus the edits
    blake3      data                            → digest
    xof         data, bytes                     → out
    probe       seed, m, n, k, rounds           → digest

    python vectors/generate.py            write the file
    python vectors/generate.py --check    fail if the committed file differs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "libs"))

from shardy_common.engine import reference as ref  # noqa: E402

PATH = Path(__file__).with_name("engine.json")
TYPES = {"i8": np.int8, "i32": np.int32, "f32": np.float32, "u8": np.uint8}
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
HEX_BYTES_MAX = 600

Case = dict[str, Any]


def array(spec: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The array that a map in `args` describes."""
    kind, shape = np.dtype(TYPES[spec["type"]]), tuple(spec["shape"])
    count = int(np.prod(shape))
    if "fill" in spec:
        return np.full(shape, spec["fill"], kind)
    if "ramp" in spec:
        return (np.arange(count) % 251).astype(kind).reshape(shape)
    data = ref.xof(spec["xof"].encode(), count * kind.itemsize) if "xof" in spec else bytes.fromhex(spec["hex"])
    return np.frombuffer(data, kind.newbyteorder("<")).astype(kind).reshape(shape)


def literal(values: Any, kind: type = np.float32) -> dict[str, Any]:
    """An array written out."""
    data: np.ndarray[Any, Any] = np.asarray(values, kind)
    return {"type": NAMES[data.dtype], "shape": list(data.shape), "hex": ref.as_bytes(data).hex()}


def drawn(kind: str, shape: list[int], text: str) -> dict[str, Any]:
    """An array of pseudo-random bytes; as f32 it holds NaNs, infinities and subnormals."""
    return {"type": kind, "shape": shape, "xof": text}


def expected(data: np.ndarray[Any, Any] | bytes) -> dict[str, str]:
    """Bytes to compare with."""
    raw = data if isinstance(data, bytes) else ref.as_bytes(data)
    return {"hex": raw.hex()} if len(raw) <= HEX_BYTES_MAX else {"blake3": ref.blake3(raw).hex()}


def case(name: str, function: str, want: dict[str, Any], **args: Any) -> Case:
    return {"name": name, "function": function, "args": args, "want": want}


SPECIAL = [
    np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1.0000001, -1.0000001, 0.99999994, 1e-45, -1e-45,
    1.1754942e-38, -1.1754942e-38, 3.4028235e38, -3.4028235e38, 0.5, -0.5,
]  # fmt: skip
BOUNDS = [(-1.0, 1.0), (0.0, 1.0), (-0.0, 1.0), (-1.0, 0.0), (-(2.0**126), 2.0**126), (1e-45, 3e-45), (-3.0, -2.0)]


def clamps() -> list[Case]:
    cases = []
    for lo, hi in BOUNDS:
        x = literal(SPECIAL)
        cases.append(
            case(
                f"special values in [{lo}, {hi}]",
                "clamp",
                {"y": expected(ref.clamp(array(x), lo, hi))},
                x=x,
                lo=lo,
                hi=hi,
            )
        )
    zeros = literal([-0.0, 0.0] * 9)
    for lo, hi in BOUNDS[1:4]:
        y = ref.clamp(array(zeros), lo, hi)
        cases.append(case(f"signs of zeros in [{lo}, {hi}]", "clamp", {"y": expected(y)}, x=zeros, lo=lo, hi=hi))
    for n in (1, 3, 4, 5, 7, 8, 9, 16, 31, 1000):
        x = drawn("f32", [n], f"clamp {n}")
        cases.append(
            case(
                f"{n} values of any bits",
                "clamp",
                {"y": expected(ref.clamp(array(x), -2.5, 1e3))},
                x=x,
                lo=-2.5,
                hi=1e3,
            )
        )
    return cases


def finite(shape: tuple[int, int], text: str) -> np.ndarray[Any, Any]:
    """Finite values of mixed size, some negative zeros and subnormals among them."""
    bits = np.frombuffer(ref.xof(text.encode(), 4 * int(np.prod(shape))), "<u4").astype(np.uint32)
    exponent = (bits >> 23) & 0xFF
    kept = np.where(exponent > 130, (bits & 0x807F_FFFF) | 0x3F80_0000, bits)
    kept = np.where(exponent < 110, bits & 0x8000_0001, kept)
    return kept.astype(np.uint32).view(np.float32).reshape(shape)


def emas() -> list[Case]:
    cases = []
    shapes = [(1, 1), (1, 9), (2, 3), (5, 8), (7, 4), (8, 4), (9, 17), (16, 5), (17, 11)]
    for rows, cols in shapes:
        x = literal(finite((rows, cols), f"ema {rows} {cols}"))
        for axis, alpha in ((0, 0.125), (1, 0.3), (0, 1.0), (1, 1e-7), (-1, 0.5)):
            y = ref.ema(array(x), axis, alpha)
            name = f"{rows}x{cols} axis {axis} alpha {alpha}"
            cases.append(case(name, "ema", {"y": expected(y)}, x=x, axis=axis, alpha=float(np.float32(alpha))))
    return cases


def quantised(name: str, x: dict[str, Any], absmax: float = -1.0) -> Case:
    q, scale = ref.quantise(array(x), None if absmax < 0 else absmax)
    return case(name, "quantise", {"q": expected(q), "scale": expected(scale)}, x=x, tensor_absmax=absmax)


def quantises() -> list[Case]:
    ties = [i + 0.5 for i in range(-127, 127)] + [127.0, -127.0]
    edge = 2.0**-100
    tiny = [
        [0.0, -0.0, 0.0],
        [1e-45, 0, 0],
        [edge, -edge, edge / 2],
        [float(np.nextafter(np.float32(edge), np.float32(0))), 0, 0],
    ]
    cases = [
        quantised("half to even, one row", literal([ties])),
        quantised("half to even, tensor", literal([ties, [t / 2 for t in ties]]), 127.0),
        quantised("zero rows and rows around 2^-100", literal(tiny)),
        quantised("values beyond the tensor's m are cut", literal([[5.0, -5.0, 1.0, 0.1]]), 1.0),
        quantised("a tensor m of 0", literal([[5.0, -5.0, 1.0, 0.1]]), 0.0),
        quantised("large values", literal([[2.0**126, -(2.0**126), 2.0**120, 1.0]])),
    ]
    for rows, cols in ((1, 1), (3, 15), (2, 16), (3, 17), (5, 33)):
        cases.append(quantised(f"{rows}x{cols}", literal(finite((rows, cols), f"quantise {rows} {cols}"))))
    return cases


def preexecs() -> list[Case]:
    cases = []
    rows, cols = 43, 21
    for axis in (-1, 0, 1):
        for scale in ("row", "tensor"):
            for warm, segment in ((0, 8), (3, 8), (20, 8), (64, 16)):
                if axis != 0 and segment == 16:
                    continue
                x = drawn("f32", [rows, cols], f"preexec {axis}")
                rule: dict[str, Any] = {
                    "warm_rows": warm, "segment_rows": segment, "lo": -1.5, "hi": 2.0, "ema_axis": axis,
                    "alpha": float(np.float32(0.1)), "scale": scale,
                }  # fmt: skip
                q, steps = ref.preexec(array(x), row0=0, rows=rows, **rule)
                splits = [[0, rows], [0, 16], [16, 27], [32, 11], [16, 16]]
                name = f"axis {axis}, scale {scale}, warm {warm}, segment {segment}"
                cases.append(
                    case(name, "preexec", {"q": expected(q), "scale": expected(steps)}, x=x, splits=splits, **rule)
                )
    return cases


def products() -> list[Case]:
    cases = []
    shapes = [(m, n, k) for m in (1, 5, 6, 7) for n in (1, 7, 8, 9) for k in (1, 2, 9)]
    shapes += [(3, 5, k) for k in (15, 16, 17, 255, 256, 257, 1023, 1024, 1025, 2049, 4097)]
    shapes += [(m, 9, 33) for m in (12, 13, 47, 48, 49, 97)] + [
        (7, n, 33) for n in (12, 13, 15, 16, 17, 31, 33, 767, 768, 769, 1025)
    ]
    shapes += [(2, 3, 65_535), (4, 4, 0)]
    for m, n, k in shapes:
        a, b = drawn("i8", [m, k], f"A {m} {n} {k}"), drawn("i8", [n, k], f"B {m} {n} {k}")
        cases.append(case(f"{m}x{n}x{k}", "matmul", {"c": expected(ref.matmul_i8(array(a), array(b)))}, a=a, b=b))
    for left, right in ((-128, -128), (-128, 127)):
        a, b = ({"type": "i8", "shape": [2, 65_535], "fill": value} for value in (left, right))
        cases.append(
            case(
                f"all {left} times all {right}, k = 65,535",
                "matmul",
                {"c": expected(ref.matmul_i8(array(a), array(b)))},
                a=a,
                b=b,
            )
        )
    return cases


def dequantises() -> list[Case]:
    cases = []
    for rows, cols in ((1, 1), (3, 5), (2, 8), (4, 9)):
        c = drawn("i32", [rows, cols], f"dequantise {rows} {cols}")
        a_scale = literal(np.abs(finite((1, rows), f"a scale {rows}"))[0])
        b_scale = literal(np.abs(finite((1, cols), f"b scale {cols}"))[0])
        d = ref.dequantise(array(c), array(a_scale), array(b_scale))
        cases.append(case(f"{rows}x{cols}", "dequantise", {"d": expected(d)}, c=c, a_scale=a_scale, b_scale=b_scale))
    extreme = literal([[2**31 - 1, -(2**31), 16_777_217, -16_777_219]], np.int32)
    scales = literal([1.0, 2.0**-100, 3.0, 1e-30])
    d = ref.dequantise(array(extreme), array(literal([0.1])), array(scales))
    cases.append(
        case("sums beyond 2^24", "dequantise", {"d": expected(d)}, c=extreme, a_scale=literal([0.1]), b_scale=scales)
    )
    return cases


def checks() -> list[Case]:
    cases = []
    for m, n, k in ((1, 1, 1), (5, 7, 9), (9, 33, 40), (4, 513, 17), (3, 4, 2100)):
        a, b = drawn("i8", [m, k], f"check A {m} {n} {k}"), drawn("i8", [n, k], f"check B {m} {n} {k}")
        c = ref.matmul_i8(array(a), array(b))
        last = [m - 1, n - 1]
        # The multiple of p must stay in int32, so it takes the sign opposite to the entry's.
        multiple = -ref.P if c[tuple(last)] > 0 else ref.P
        for name, edits in (
            ("right", []),
            ("one off by one", [[0, 0, 1]]),
            ("last off by minus one", [[*last, -1]]),
            ("changed by a multiple of p", [[*last, multiple]]),
            ("top bit changed", [[*last, -(1 << 31) if c[tuple(last)] >= 0 else (1 << 31)]]),
            ("two entries traded", [[0, 0, 5], [0, n - 1, -5]] if n > 1 else [[0, 0, 128]]),
        ):
            edited = c.astype(np.int64)
            for row, column, delta in edits:
                edited[row, column] += delta
            for rounds in (1, 2, 3):
                seed = ref.xof(f"{name} {rounds}".encode(), 32)
                bad = ref.freivalds(array(a), array(b), edited.astype(np.int32), seed, rounds)
                assert bad == sorted({row for row, _, _ in edits}), (name, bad)
                cases.append(
                    case(
                        f"{m}x{n}x{k} {name}, rounds {rounds}",
                        "freivalds",
                        {"bad": bad},
                        a=a,
                        b=b,
                        edits=edits,
                        seed=seed.hex(),
                        rounds=rounds,
                    )
                )
    return cases


def hashes() -> list[Case]:
    cases = []
    for n in (0, 1, 63, 64, 65, 127, 1023, 1024, 1025, 2048, 2049, 4096, 4097, 5121, 102_400):
        data = {"type": "u8", "shape": [n], "ramp": 251}
        raw = array(data).tobytes()
        cases.append(case(f"{n} bytes", "blake3", {"digest": expected(ref.blake3(raw))}, data=data))
        length = {0: 1, 1: 131, 1023: 64, 2049: 1000}.get(n, 65)
        cases.append(
            case(f"{n} bytes to {length}", "xof", {"out": expected(ref.xof(raw, length))}, data=data, bytes=length)
        )
    return cases


def probes() -> list[Case]:
    cases = []
    for m, n, k, rounds in ((1, 1, 1, 1), (8, 8, 8, 2), (33, 17, 65, 3), (64, 64, 64, 4)):
        seed = ref.xof(f"probe {m} {n} {k}".encode(), 32)
        digest = ref.probe(seed, m, n, k, rounds)
        cases.append(
            case(
                f"{m}x{n}x{k}, rounds {rounds}",
                "probe",
                {"digest": expected(digest)},
                seed=seed.hex(),
                m=m,
                n=n,
                k=k,
                rounds=rounds,
            )
        )
    return cases


def text() -> str:
    """The file: one case a line."""
    groups = (clamps, emas, quantises, preexecs, products, dequantises, checks, hashes, probes)
    lines = [json.dumps(item, separators=(",", ":"), allow_nan=False) for group in groups for item in group()]
    return '{"cases":[\n' + ",\n".join(lines) + "\n]}\n"


def main() -> int:
    made = text()
    if "--check" in sys.argv[1:]:
        same = PATH.read_text() == made
        print("vectors/engine.json is", "up to date" if same else "OUT OF DATE: run vectors/generate.py")
        return 0 if same else 1
    PATH.write_text(made)
    print(f"{PATH.name}: {len(made):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
