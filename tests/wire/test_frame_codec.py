"""The binary frame: what goes in comes out, without a copy; everything else is a FrameError and nothing worse."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_common.wire import frame

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=40)
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
HEADERS = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "seg"), VALUES, max_size=6)
SEGMENTS = st.lists(st.binary(max_size=70), max_size=6)


@settings(max_examples=60)
@given(HEADERS, SEGMENTS)
def test_round_trip(header: dict[str, Any], segments: list[bytes]) -> None:
    encoded = frame.encode(header, segments)
    assert len(encoded) % 8 == 0
    back, views = frame.decode(encoded)
    assert [bytes(view) for view in views] == segments
    assert back == (header | {"seg": [len(s) for s in segments]} if segments else header)


@settings(max_examples=40)
@given(HEADERS, st.lists(st.binary(min_size=1, max_size=70), min_size=1, max_size=6))
def test_segments_are_aligned_views_of_the_received_bytes(header: dict[str, Any], segments: list[bytes]) -> None:
    buffer = bytearray(frame.encode(header, segments))
    _, views = frame.decode(memoryview(buffer))
    base = np.frombuffer(buffer, np.uint8).ctypes.data
    for view in views:
        assert (np.frombuffer(view, np.uint8).ctypes.data - base) % frame.ALIGN == 0
    before = views[0][0]
    buffer[np.frombuffer(views[0], np.uint8).ctypes.data - base] ^= 0xFF
    assert views[0][0] == before ^ 0xFF, "a change of the buffer shows in the view: no byte was copied"


@pytest.mark.parametrize("dtype", ["<i4", "<f4", "i1"])
def test_a_typed_view_is_a_segment_of_its_bytes(dtype: str) -> None:
    array = np.arange(12, dtype=dtype).reshape(3, 4)
    _, views = frame.decode(frame.encode({"t": "x"}, [memoryview(array)]))
    assert bytes(views[0]) == array.tobytes()


def _framed(head: bytes, rest: bytes = b"", length: int | None = None) -> bytes:
    start = frame.MAGIC + (len(head) if length is None else length).to_bytes(4, "little") + head
    return start + bytes(-len(start) % 8) + rest


def _map(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


MALFORMED = {
    "nothing": b"",
    "shorter than a head": b"SHY1\0\0\0",
    "another magic": b"SHY2" + _framed(_map())[4:],
    "header past the end": _framed(_map(t="x"), length=4000),
    "header over its limit": _framed(_map(), length=frame.HEADER_BYTES_MAX + 1),
    "header cut short": _framed(_map(t="hello"), length=3),
    "header is a list": _framed(msgspec.msgpack.encode([1, 2])),
    "header has integer keys": _framed(msgspec.msgpack.encode({1: 2})),
    "header is not MessagePack": _framed(b"\xc1"),
    "header with bad UTF-8": _framed(b"\x81\xa2\xff\xfe\x01"),
    "header nested too deep": _framed(b"\x81\xa1a" + b"\x91" * 100_000 + b"\x00"),
    "bytes after the header's map": _framed(_map() + b"\x00"),
    "a time stamp out of range": _framed(b"\x81\xa1t\xc7\x0c\xff" + b"\xff" * 12),
    "seg is no list": _framed(_map(seg=8), bytes(8)),
    "seg is a map": _framed(_map(seg={"a": 8}), bytes(8)),
    "a negative length": _framed(_map(seg=[-8])),
    "a length that is true": _framed(_map(seg=[True]), bytes(8)),
    "a length that is a float": _framed(_map(seg=[8.0]), bytes(8)),
    "a segment past the end": _framed(_map(seg=[9]), bytes(8)),
    "an enormous segment": _framed(_map(seg=[2**63]), bytes(8)),
    "a second segment past the end": _framed(_map(seg=[8, 1]), bytes(8)),
    "bytes that nobody names": _framed(_map(), bytes(8)),
    "bytes after the last segment": _framed(_map(seg=[1]), bytes(16)),
    "too many segments": _framed(_map(seg=[0] * (frame.SEGMENTS_MAX + 1))),
    "too long": bytes(frame.FRAME_BYTES_MAX + 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frames_are_refused(name: str) -> None:
    with pytest.raises(frame.FrameError) as caught:
        frame.decode(MALFORMED[name])
    assert str(caught.value)


@pytest.mark.parametrize("name", ["too many segments", "header over its limit", "too long"])
def test_encode_keeps_the_same_limits(name: str) -> None:
    header, segments = {
        "too many segments": ({}, [b""] * (frame.SEGMENTS_MAX + 1)),
        "header over its limit": ({"x": bytes(frame.HEADER_BYTES_MAX)}, []),
        "too long": ({}, [bytes(frame.FRAME_BYTES_MAX)]),
    }[name]
    with pytest.raises(frame.FrameError, match="at most"):
        frame.encode(header, segments)  # type: ignore[arg-type]


def _decodes_or_refuses(data: bytes) -> None:
    with contextlib.suppress(frame.FrameError):
        header, views = frame.decode(data)
        assert isinstance(header, dict) and sum(map(len, views)) <= len(data)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_never_raises_anything_else(noise: bytes) -> None:
    _decodes_or_refuses(noise)
    _decodes_or_refuses(frame.MAGIC + noise)
    _decodes_or_refuses(_framed(noise))


@settings(max_examples=200)
@given(HEADERS, SEGMENTS, st.data())
def test_mutated_frames_never_raise_anything_else(header: dict[str, Any], segments: list[bytes], data: Any) -> None:
    encoded = bytearray(frame.encode(header, segments))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(encoded) - 1, 0)))
        what = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if what == "flip" and encoded:
            encoded[at] ^= 1 << data.draw(st.integers(0, 7))
        elif what == "cut":
            del encoded[at : at + data.draw(st.integers(1, 16))]
        elif what == "insert":
            encoded[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        else:
            encoded += encoded[at:]
    _decodes_or_refuses(bytes(encoded))
