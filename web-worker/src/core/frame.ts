/**
 * The binary frame of the worker protocol (docs/protocol.md §1.1).
 *
 * Layout: magic `SHY1`, u32 header length, MessagePack map, then 8-aligned segments. Decoding returns views onto the
 * received buffer: no byte of a segment is copied.
 */
import { Decoder, Encoder } from "@msgpack/msgpack";

export const FRAME_BYTES_MAX = 16 * 1024 * 1024;
export const HEADER_BYTES_MAX = 1024 * 1024;
export const SEGMENTS_MAX = 4096;
const MAGIC = 0x31594853;

export type Header = { t: string; seg?: number[] } & Record<string, unknown>;
export type Frame = { header: Header; segments: Uint8Array[] };

/** The bytes are not a frame, or would not be one; the message says which rule they break. */
export class FrameError extends Error {}

const encoder = new Encoder();
const decoder = new Decoder({ maxMapLength: 65536, maxArrayLength: 65536 });
const align8 = (n: number): number => (n + 7) & ~7;

/** One frame. `header.seg` is set here from the segments' lengths, after the other keys. */
export function encodeFrame(header: Header, segments: readonly Uint8Array[] = []): Uint8Array<ArrayBuffer> {
  if (segments.length > SEGMENTS_MAX) {
    throw new FrameError(`${segments.length} segments; at most ${SEGMENTS_MAX} fit a frame`);
  }
  const full = segments.length > 0 ? { ...header, seg: segments.map((s) => s.length) } : header;
  const head = encoder.encodeSharedRef(full);
  if (head.length > HEADER_BYTES_MAX) {
    throw new FrameError(`header of ${head.length} bytes; at most ${HEADER_BYTES_MAX} are allowed`);
  }
  const first = align8(8 + head.length);
  const size = segments.reduce((sum, s) => sum + align8(s.length), first);
  if (size > FRAME_BYTES_MAX) {
    throw new FrameError(`frame of ${size} bytes; at most ${FRAME_BYTES_MAX} are allowed`);
  }
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, head.length, true);
  out.set(head, 8);
  let at = first;
  for (const segment of segments) {
    out.set(segment, at);
    at += align8(segment.length);
  }
  return out;
}

/** Header and segment views of one frame; FrameError when the bytes break a rule. */
export function decodeFrame(data: ArrayBuffer): Frame {
  const size = data.byteLength;
  if (size > FRAME_BYTES_MAX) throw new FrameError(`frame of ${size} bytes; at most ${FRAME_BYTES_MAX} are allowed`);
  const view = new DataView(data);
  if (size < 8 || view.getUint32(0, true) !== MAGIC) {
    throw new FrameError("a frame starts with the magic bytes SHY1 and a header length");
  }
  const length = view.getUint32(4, true);
  if (length > HEADER_BYTES_MAX || 8 + length > size) {
    throw new FrameError(`header length ${length} does not fit a frame of ${size} bytes`);
  }
  const header = decodeHeader(new Uint8Array(data, 8, length));
  const lengths = header.seg ?? [];
  if (!Array.isArray(lengths) || lengths.length > SEGMENTS_MAX) {
    throw new FrameError(`seg is a list of at most ${SEGMENTS_MAX} lengths`);
  }
  const segments: Uint8Array[] = [];
  let at = align8(8 + length);
  for (const n of lengths) {
    if (!Number.isSafeInteger(n) || n < 0 || at + n > size) {
      throw new FrameError(`segment of ${String(n)} bytes at ${at} runs past the frame's end at ${size}`);
    }
    segments.push(new Uint8Array(data, at, n));
    at += Math.ceil(n / 8) * 8;
  }
  // The padding after the header or the last segment may be missing, nothing may follow it.
  if (size > at || align8(size) < at) {
    throw new FrameError(`${size} bytes where header and segments make ${at}`);
  }
  return { header, segments };
}

function decodeHeader(bytes: Uint8Array): Header {
  let header: unknown;
  try {
    header = decoder.decode(bytes);
  } catch (error) {
    throw new FrameError(`the header is not a MessagePack map: ${String(error)}`);
  }
  if (typeof header !== "object" || header === null || Array.isArray(header) || header instanceof Uint8Array) {
    throw new FrameError("the header is not a MessagePack map");
  }
  if (typeof (header as Header).t !== "string") throw new FrameError("the header's key t is a string");
  return header as Header;
}
