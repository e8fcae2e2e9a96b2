"""The binary frame of the worker protocol and of inline job submission (docs/protocol.md §1.1).

Layout: magic `SHY1`, u32 header length, MessagePack map, then 8-aligned segments. Decoding returns memoryviews
onto the received buffer: no byte of a segment is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

MAGIC = b"SHY1"
FRAME_BYTES_MAX = 16 * 1024 * 1024
HEADER_BYTES_MAX = 1024 * 1024
SEGMENTS_MAX = 4096
ALIGN = 8

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])
_PADS = tuple(bytes(i) for i in range(ALIGN))


class FrameError(ValueError):
    """The bytes are not a frame; the message says which rule they break."""


def encode(header: dict[str, Any], segments: Sequence[bytes | memoryview] = ()) -> bytes:
    """One frame. `header["seg"]` is set here from the segments' lengths."""
    sizes: list[int] = []
    if segments:
        if len(segments) > SEGMENTS_MAX:
            raise FrameError(f"{len(segments)} segments; at most {SEGMENTS_MAX} fit a frame")
        # bytes, whatever a view's items are: the length of an int32 view would be a quarter of them
        sizes = [memoryview(segment).nbytes for segment in segments]
        header = {**header, "seg": sizes}
    head = _encoder.encode(header)
    if len(head) > HEADER_BYTES_MAX:
        raise FrameError(f"header of {len(head)} bytes; at most {HEADER_BYTES_MAX} are allowed")
    parts: list[bytes | memoryview] = [MAGIC, len(head).to_bytes(4, "little"), head, _PADS[-(8 + len(head)) % ALIGN]]
    for segment, size in zip(segments, sizes, strict=True):
        parts.append(segment)
        parts.append(_PADS[-size % ALIGN])
    frame = b"".join(parts)
    if len(frame) > FRAME_BYTES_MAX:
        raise FrameError(f"frame of {len(frame)} bytes; at most {FRAME_BYTES_MAX} are allowed")
    return frame


def decode(data: bytes | memoryview) -> tuple[dict[str, Any], list[memoryview]]:
    """Header and segment views of one frame; FrameError when the bytes break a rule."""
    size = len(data)
    if size > FRAME_BYTES_MAX:
        raise FrameError(f"frame of {size} bytes; at most {FRAME_BYTES_MAX} are allowed")
    view = memoryview(data)
    if size < 8 or view[:4] != MAGIC:
        raise FrameError("a frame starts with the magic bytes SHY1 and a header length")
    length = int.from_bytes(view[4:8], "little")
    if length > HEADER_BYTES_MAX:
        raise FrameError(f"header of {length} bytes; at most {HEADER_BYTES_MAX} are allowed")
    if 8 + length > size:
        raise FrameError(f"header length {length} does not fit a frame of {size} bytes")
    try:
        header = _decoder.decode(view[8 : 8 + length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"the header is not a MessagePack map with string keys: {error}") from None
    lengths = header.get("seg", ())
    if not isinstance(lengths, (list, tuple)):
        raise FrameError("seg is a list of lengths")
    if len(lengths) > SEGMENTS_MAX:
        raise FrameError(f"{len(lengths)} segments; at most {SEGMENTS_MAX} fit a frame")
    at = (8 + length + ALIGN - 1) // ALIGN * ALIGN
    segments = []
    for n in lengths:
        if type(n) is not int or n < 0 or at + n > size:
            raise FrameError(f"segment of {n!r} bytes at {at} runs past the frame's end at {size}")
        segments.append(view[at : at + n])
        at += (n + ALIGN - 1) // ALIGN * ALIGN
    if at > (size + ALIGN - 1) // ALIGN * ALIGN or size > at:
        raise FrameError(f"{size} bytes where header and segments make {at}")
    return header, segments
