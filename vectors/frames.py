"""Writes vectors/frames.json: frames by the Python codec, for every other codec to read and write.

    python vectors/frames.py

In JSON a header's bytes are `{"$hex": "…"}`. `frames` encode to exactly these bytes (keys in the order given, `seg`
last) and decode to exactly these headers and segments. `lenient` only decode. `refused` must not decode.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "libs"))

from shardy_common.wire import frame  # noqa: E402

KEY = bytes(range(32))
LEASE = {
    "lease": "l-1",
    "task": "t-1",
    "job": "j-1",
    "kind": "matmul",
    "deadline_ms": 30_000,
    "p": {"dtype": "int8", "k": 3, "a": {"d": "ab" * 32, "o": 0, "l": 6, "r": 2, "c": 3}, "pre": None},
    "trace": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
}
RESULT = {"lease": "l-1", "task": "t-1", "digest": KEY, "len": 16, "ms": 0.25, "backend": "wasm", "spans": {}, "s": 0}

FRAMES: list[tuple[str, dict[str, Any], list[bytes]]] = [
    ("no segments", {"t": "leave"}, []),
    ("hello", {"t": "hello", "versions": [2], "key": KEY, "agent": "browser-tab/0.1 Küche", "held": []}, []),
    (
        "integers around every width",
        {"t": "x", "n": [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1]},
        [],
    ),
    ("negative integers", {"t": "x", "n": [-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31)]}, []),
    ("floats, booleans, nil", {"t": "x", "v": [0.5, -1.25, 1e300, True, False, None]}, []),
    ("lease that carries", {"t": "lease", "leases": [LEASE], "carry": [["ab" * 32, 0, 6, 0]]}, [bytes(range(6))]),
    (
        "results",
        {"t": "result", "results": [RESULT, {**RESULT, "s": 1}], "sig": bytes(range(64))},
        [bytes(16), b"\xff" * 16],
    ),
    ("answer to a heartbeat", {"t": "heartbeat", "credit": {"tasks": 3, "ops": 2**53 - 1}}, []),
    *((f"segment of {n} bytes", {"t": "x"}, [bytes(i % 251 for i in range(n))]) for n in (0, 1, 7, 8, 9, 255, 256)),
    ("segments of all paddings", {"t": "x"}, [b"a" * n for n in range(9)]),
    *((f"header padded by {8 - n}", {"t": "x" * n}, [b"after"]) for n in range(1, 9)),
]


def plain(value: Any) -> Any:
    """`value` with bytes as {"$hex"}."""
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def raw(head: bytes, tail: bytes = b"", length: int | None = None) -> bytes:
    """A frame by hand: header bytes as they are, padding, then `tail`."""
    claimed = len(head) if length is None else length
    return frame.MAGIC + claimed.to_bytes(4, "little") + head + bytes(-(8 + len(head)) % 8) + tail


def pack(value: Any) -> bytes:
    return frame._encoder.encode(value)


def refused() -> list[tuple[str, bytes]]:
    good = frame.encode({"t": "x"}, [b"12345678", b"abc"])
    return [
        ("nothing", b""),
        ("seven bytes", good[:7]),
        ("magic with one bit changed", bytes([good[0] ^ 1]) + good[1:]),
        ("header length past the end", raw(pack({"t": "x"}), length=4096)),
        ("header length over a mebibyte", raw(pack({"t": "x"}), length=2**20 + 1)),
        ("header is a list", raw(pack(["t", "x"]))),
        ("header is a number", raw(pack(7))),
        ("header cut off", raw(pack({"t": "x", "list": [1, 2, 3]})[:-1])),
        ("bytes after the header's map", raw(pack({"t": "x"}) + b"\x01")),
        ("seg is a number", raw(pack({"t": "x", "seg": 8}), bytes(8))),
        ("seg holds a text", raw(pack({"t": "x", "seg": ["8"]}), bytes(8))),
        ("seg holds a negative number", raw(pack({"t": "x", "seg": [-8]}), bytes(8))),
        ("seg holds a float", raw(pack({"t": "x", "seg": [8.5]}), bytes(16))),
        ("seg holds a huge number", raw(pack({"t": "x", "seg": [2**53]}), bytes(8))),
        ("segment past the end", good[:-8]),
        ("eight bytes too many", good + bytes(8)),
        ("too many segments", raw(pack({"t": "x", "seg": [0] * 4097}))),
        ("another magic", b"SHY2" + good[4:]),
    ]


def case(name: str, header: dict[str, Any], segments: list[bytes], data: bytes) -> dict[str, Any]:
    return {"name": name, "header": plain(header), "segments": [s.hex() for s in segments], "frame": data.hex()}


def main() -> None:
    frames = [
        {
            "name": name,
            "header": plain(header),
            "segments": [s.hex() for s in segments],
            "frame": frame.encode(header, segments).hex(),
        }
        for name, header, segments in FRAMES
    ]
    short = frame.encode({"t": "x"}, [b"abc"])
    lenient = [
        {
            "name": "last padding missing",
            "header": {"t": "x", "seg": [3]},
            "segments": [b"abc".hex()],
            "frame": short[:-5].hex(),
        }
    ]
    for case in [*frames, *lenient]:
        _, segments = frame.decode(bytes.fromhex(case["frame"]))
        assert [bytes(s).hex() for s in segments] == case["segments"], case["name"]
    bad = []
    for name, data in refused():
        try:
            frame.decode(data)
        except frame.FrameError as error:
            bad.append({"name": name, "frame": data.hex(), "reason": str(error)})
        else:
            raise AssertionError(f"{name} was decoded")
    document = {"frames": frames, "lenient": lenient, "refused": bad}
    (HERE / "frames.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(frames)} frames, {len(lenient)} lenient, {len(bad)} refused")


if __name__ == "__main__":
    main()
