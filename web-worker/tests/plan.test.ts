import { describe, expect, it } from "vitest";
import { planSegments } from "../src/core/preexec.ts";
import { type Pre, WorkError } from "../src/core/types.ts";
import { kvOf, planBlocks, planSlices, tilesPerSlice } from "../src/gpu/plan.ts";
import { roomy } from "../src/gpu/pool.ts";

/** How often each cell of an m×n grid is covered. */
function cover(m: number, n: number, parts: { row0: number; rows: number; col0: number; cols: number }[]): Set<number> {
  const grid = new Uint8Array(m * n);
  for (const { row0, rows, col0, cols } of parts) {
    for (let r = row0; r < row0 + rows; r++)
      for (let c = col0; c < col0 + cols; c++) grid[r * n + c] = (grid[r * n + c] ?? 0) + 1;
  }
  return new Set(grid);
}

describe("blocks", () => {
  it.each([
    [1, 1, 1, 1024],
    [100, 70, 33, 4096],
    [5, 700, 16, 256],
    [700, 5, 16, 256],
    [64, 64, 64, 1 << 27],
    [9, 9, 1000, 1008],
  ])("%i×%i, k %i in %i bytes: each cell once, each buffer within the limit", (m, n, k, limit) => {
    const blocks = planBlocks(m, n, k, limit);
    expect(blocks).not.toBeNull();
    expect(cover(m, n, blocks ?? [])).toEqual(new Set([1]));
    for (const { rows, cols } of blocks ?? []) {
      expect(rows * kvOf(k) * 16).toBeLessThanOrEqual(limit);
      expect(cols * kvOf(k) * 16).toBeLessThanOrEqual(limit);
      expect(rows * cols * 4).toBeLessThanOrEqual(limit);
    }
  });

  it("is one block where all fits, none where a single row does not", () => {
    expect(planBlocks(64, 64, 64, 1 << 20)).toHaveLength(1);
    expect(planBlocks(1, 1, 1000, 999)).toBeNull();
  });
});

describe("slices", () => {
  it.each([
    [1, 1, 0.2],
    [7, 5, 1],
    [7, 5, 5],
    [7, 5, 12],
    [7, 5, 1000],
    [3, 70_000, 1e9],
  ])("%i×%i tiles, at most %f: each tile once, within the limits", (tilesM, tilesN, most) => {
    const slices = planSlices(tilesM, tilesN, most);
    const parts = slices.map((s) => ({ row0: s.tileRow, rows: s.tilesM, col0: s.tileCol, cols: s.tilesN }));
    expect(cover(tilesM, tilesN, parts)).toEqual(new Set([1]));
    for (const s of slices) {
      expect(s.tilesM * s.tilesN).toBeLessThanOrEqual(Math.max(1, most));
      expect(s.tilesN).toBeLessThanOrEqual(65_535);
    }
  });

  it("takes as many tiles as the rate allows in 100 ms", () => {
    // 100 GOPS do 10^10 operations in 100 ms; a 32×32 tile at k = 1000 takes 2,048,000.
    expect(tilesPerSlice(100, 32, 32, 1000)).toBeCloseTo(10e9 / 2_048_000);
  });
});

it("pool sizes waste a quarter at most", () => {
  for (const bytes of [1, 256, 257, 1000, 4096, 5000, 1 << 20, (1 << 20) + 1, 99_999_999]) {
    expect(roomy(bytes)).toBeGreaterThanOrEqual(bytes);
    expect(roomy(bytes) % 4).toBe(0);
    if (bytes >= 256) expect(roomy(bytes)).toBeLessThanOrEqual(bytes * 1.25 + 4);
  }
});

describe("segments of an EMA down the rows", () => {
  const pre: Pre = { lo: -1, hi: 1, ema_axis: 0, alpha: 0.5, warm_rows: 10, segment_rows: 32, scale: "row" };

  it("start with their warm-up rows, which the first has not", () => {
    expect(planSegments(pre, 0, 70, 70)).toEqual([
      { firstRow: 0, rowsIn: 32, warmRows: 0 },
      { firstRow: 22, rowsIn: 42, warmRows: 10 },
      { firstRow: 54, rowsIn: 16, warmRows: 10 },
    ]);
    expect(planSegments(pre, 32, 32, 42)).toEqual([{ firstRow: 0, rowsIn: 42, warmRows: 10 }]);
  });

  it("refuses a slice off the boundary or without its warm-up rows", () => {
    expect(() => planSegments(pre, 31, 32, 42)).toThrow(WorkError);
    expect(() => planSegments(pre, 32, 32, 41)).toThrow(WorkError);
    expect(() => planSegments({ ...pre, segment_rows: 0 }, 0, 32, 32)).toThrow(WorkError);
  });
});
