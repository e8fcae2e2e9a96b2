import { describe, expect, it } from "vitest";
import { decodeFrame, encodeFrame, FrameError, type Header } from "../src/core/frame.ts";
import { fromHex, readJson, toHex } from "./vectors.ts";

type Case = { name: string; header: unknown; segments: string[]; frame: string };
const vectors = readJson("vectors/frames.json") as {
  frames: Case[];
  lenient: Case[];
  refused: { name: string; frame: string }[];
};

/** {"$hex"} maps back to bytes. */
function revive(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revive);
  if (typeof value !== "object" || value === null) return value;
  if ("$hex" in value) return fromHex(value.$hex as string);
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, revive(v)]));
}

describe("frames that Python wrote", () => {
  it.each(vectors.frames)("$name: the same bytes", ({ header, segments, frame }) => {
    expect(toHex(encodeFrame(revive(header) as Header, segments.map(fromHex)))).toBe(frame);
  });

  it.each(vectors.frames)("$name: read back", ({ header, segments, frame }) => {
    const decoded = decodeFrame(fromHex(frame).buffer);
    const seg = segments.length > 0 ? { seg: segments.map((s) => s.length / 2) } : {};
    expect(decoded.header).toEqual({ ...(revive(header) as object), ...seg });
    expect(decoded.segments.map(toHex)).toEqual(segments);
    for (const segment of decoded.segments) expect(segment.byteOffset % 8).toBe(0);
  });

  it.each(vectors.lenient)("$name: accepted", ({ segments, frame }) => {
    expect(decodeFrame(fromHex(frame).buffer).segments.map(toHex)).toEqual(segments);
  });

  it.each(vectors.refused)("$name: refused", ({ frame }) => {
    expect(() => decodeFrame(fromHex(frame).buffer)).toThrow(FrameError);
  });
});

describe("limits", () => {
  it("refuses to write what nobody would read", () => {
    expect(() => encodeFrame({ t: "x" }, Array(4097).fill(new Uint8Array(0)))).toThrow(FrameError);
    expect(() => encodeFrame({ t: "x".repeat(1024 * 1024) })).toThrow(FrameError);
    expect(() => encodeFrame({ t: "x" }, [new Uint8Array(16 * 1024 * 1024)])).toThrow(FrameError);
  });

  it("decodes segments without copying", () => {
    const bytes = encodeFrame({ t: "x" }, [new Uint8Array(100)]);
    expect(decodeFrame(bytes.buffer).segments[0]?.buffer).toBe(bytes.buffer);
  });
});
