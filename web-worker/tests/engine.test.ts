import { beforeAll, describe, expect, it } from "vitest";
import { preexecBytes, preexecSteps } from "../src/core/preexec.ts";
import { probeDigest } from "../src/core/probe.ts";
import type { Pre } from "../src/core/types.ts";
import type { Engine } from "../src/engine/engine.ts";
import { type ArraySpec, arrayBytes, fromHex, loadEngine, matches, readJson } from "./vectors.ts";

type Case = {
  name: string;
  function: string;
  args: Record<string, unknown>;
  want: Record<string, { hex?: string; blake3?: string }>;
};
const cases = (readJson("vectors/engine.json") as { cases: Case[] }).cases;
const of = (name: string): Case[] => cases.filter((c) => c.function === name);

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine();
});

const put = (spec: unknown): number => engine.put(arrayBytes(spec as ArraySpec));
const shape = (spec: unknown): [number, number] => (spec as ArraySpec).shape as [number, number];

describe("the engine in this runtime, on the shared vectors", () => {
  it.each(of("matmul"))("matmul: $name", ({ args, want }) => {
    const [[m, k], [n]] = [shape(args.a), shape(args.b)];
    const [a, b, c] = [put(args.a), put(args.b), engine.alloc(4 * m * n)];
    engine.matmul(a, b, c, m, n, k);
    expect(matches(engine.u8(c, 4 * m * n), want.c ?? {})).toBe(true);
    const packed = engine.alloc(engine.packedSize(n, k));
    engine.packB(b, n, k, packed);
    engine.u8(c, 4 * m * n).fill(0x55);
    engine.matmulPacked(a, packed, c, m, n, k);
    expect(matches(engine.u8(c, 4 * m * n), want.c ?? {})).toBe(true);
    if (m * n > 0) expect(engine.wrongRows(a, b, c, m, n, k)).toBe(0);
  });

  it.each(of("blake3"))("blake3: $name", ({ args, want }) => {
    expect(matches(engine.hashBytes(arrayBytes(args.data as ArraySpec)), want.digest ?? {})).toBe(true);
  });

  it.each(of("xof"))("xof: $name", ({ args, want }) => {
    const bytes = args.bytes as number;
    const out = engine.alloc(bytes);
    engine.xof(arrayBytes(args.data as ArraySpec), out, bytes);
    expect(matches(engine.u8(out, bytes), want.out ?? {})).toBe(true);
  });

  it.each(of("probe"))("probe: $name", async ({ args, want }) => {
    const { m, n, k, rounds } = args as { m: number; n: number; k: number; rounds: number };
    const digest = await probeDigest(engine, (a, b, kk, out) => engine.matmul(a.ptr, b.ptr, out, a.rows, b.rows, kk), {
      seed: fromHex(args.seed as string),
      m,
      n,
      k,
      rounds,
    });
    expect(matches(digest, want.digest ?? {})).toBe(true);
  });
});

describe("pre-execution, whole and split at every given place", () => {
  it.each(of("preexec"))("$name", ({ args, want }) => {
    const { x, splits, ...rule } = args as { x: ArraySpec; splits: [number, number][] } & Omit<Pre, "row0">;
    const [all, cols] = shape(x);
    const bytes = arrayBytes(x);
    const run = (row0: number, rows: number): [scale: Uint8Array, q: Uint8Array] => {
      const before = rule.ema_axis === 0 ? Math.min(rule.warm_rows, row0) : 0;
      const slice = bytes.subarray((row0 - before) * cols * 4, (row0 + rows) * cols * 4);
      const at = engine.put(slice);
      const out = engine.alloc(preexecBytes(rows, cols));
      for (const _ of preexecSteps(engine, { x: at, rowsIn: rows + before, row0, rows, cols }, rule, out));
      return [engine.u8(out, rows * 4).slice(), engine.u8(out + rows * 4, rows * cols).slice()];
    };
    const [scale, q] = run(0, all);
    expect(matches(q, want.q ?? {})).toBe(true);
    expect(matches(scale, want.scale ?? {})).toBe(true);
    for (const [row0, rows] of splits) {
      const part = run(row0, rows);
      expect(part[0]).toEqual(scale.slice(row0 * 4, (row0 + rows) * 4));
      expect(part[1]).toEqual(q.slice(row0 * cols, (row0 + rows) * cols));
    }
  });
});

it("sees one wrong element", () => {
  const [m, n, k] = [5, 4, 9];
  const [a, b, c] = [
    put({ type: "i8", shape: [m, k], xof: "a" }),
    put({ type: "i8", shape: [n, k], xof: "b" }),
    engine.alloc(4 * m * n),
  ];
  engine.matmul(a, b, c, m, n, k);
  const view = engine.u8(c, 4 * m * n);
  view[4 * 7] = (view[4 * 7] ?? 0) ^ 1;
  expect(engine.wrongRows(a, b, c, m, n, k)).toBe(1);
});
