/** Self-test of kernel variants and measured rates (docs/protocol.md §2.1). */
import type { Engine } from "../engine/engine.ts";
import type { Rows } from "../gpu/matmul.ts";
import { median } from "./timing.ts";

/** C[m,n] = A[m,k]·B[n,k]ᵀ at `out`, on whatever is being measured or tested. */
export type Multiply = (a: Rows, b: Rows, k: number, out: number) => void | Promise<void>;

const TARGET_MS = 100;
const RUNS = 5;
/** 96 MiB of operands and result: the engine's memory never shrinks again. */
const SIDE_MAX = 4096;

export type Rate = { gops: number; ms: number; side: number; spread: number };

/** One pair of operands and room for their product, n×n×n. */
async function withSquare<T>(
  engine: Engine,
  n: number,
  use: (a: Rows, b: Rows, out: number) => Promise<T>,
): Promise<T> {
  const sizes = [n * n, n * n, 4 * n * n];
  const ptrs: number[] = [];
  try {
    for (const size of sizes) ptrs.push(engine.alloc(size));
    const [a = 0, b = 0, out = 0] = ptrs;
    engine.xof(new Uint8Array([1]), a, n * n);
    engine.xof(new Uint8Array([2]), b, n * n);
    return await use({ ptr: a, rows: n, key: null }, { ptr: b, rows: n, key: null }, out);
  } finally {
    for (const [i, ptr] of ptrs.entries()) engine.free(ptr, sizes[i] ?? 0);
  }
}

/**
 * Grows n from `first` until an n×n×n product takes about 100 ms, then takes the median of five.
 * `spread` is (slowest − fastest) / median.
 */
export async function measure(
  engine: Engine,
  multiply: Multiply,
  first: number,
  targetMs = TARGET_MS,
  runs = RUNS,
): Promise<Rate> {
  for (let n = first; ; n *= 2) {
    const rate = await withSquare(engine, n, async (a, b, out) => {
      const once = async (): Promise<number> => {
        const start = performance.now();
        await multiply(a, b, n, out);
        return performance.now() - start;
      };
      // The first run pays for compiling, allocating and warming up.
      await once();
      const second = await once();
      if (second < targetMs / 2 && n < SIDE_MAX) return null;
      const times = [second];
      while (times.length < runs) times.push(await once());
      const ms = median(times);
      return {
        gops: (2 * n ** 3) / ms / 1e6,
        ms,
        side: n,
        spread: (Math.max(...times) - Math.min(...times)) / ms,
      };
    });
    if (rate !== null) return rate;
  }
}

/** Time of the smallest product: what each one costs however little it computes. */
export async function fixedCost(engine: Engine, multiply: Multiply): Promise<number> {
  return withSquare(engine, 16, async (a, b, out) => {
    const times: number[] = [];
    for (let i = 0; i < RUNS + 2; i++) {
      const start = performance.now();
      await multiply(a, b, 16, out);
      times.push(performance.now() - start);
    }
    return median(times.slice(2));
  });
}

/** One element, tile edges ± 1 of every variant, K off the 4 and 16 byte steps. */
const TEST_SHAPES: readonly [m: number, n: number, k: number][] = [
  [1, 1, 1],
  [5, 3, 7],
  [33, 31, 17],
  [64, 64, 64],
  [129, 65, 130],
];

/** All −128 (the largest sums), −128 against 127, and pseudo-random bytes. */
const FILLS: readonly ((engine: Engine, ptr: number, len: number, operand: number) => void)[] = [
  (engine, ptr, len, operand) => engine.xof(new Uint8Array([operand, 7]), ptr, len),
  (engine, ptr, len) => void engine.u8(ptr, len).fill(0x80),
  (engine, ptr, len, operand) => void engine.u8(ptr, len).fill(operand === 0 ? 0x80 : 0x7f),
];

/** Null where `multiply` gives the engine's bytes for every shape and fill, else what differed. */
export async function selfTest(engine: Engine, multiply: Multiply): Promise<string | null> {
  for (const [m, n, k] of TEST_SHAPES) {
    const sizes = [m * k, n * k, 4 * m * n, 4 * m * n] as const;
    const [a, b, want, got] = sizes.map((size) => engine.alloc(size)) as [number, number, number, number];
    try {
      for (const [f, fill] of FILLS.entries()) {
        fill(engine, a, sizes[0], 0);
        fill(engine, b, sizes[1], 1);
        engine.u8(got, sizes[3]).fill(0x55);
        engine.matmul(a, b, want, m, n, k);
        await multiply({ ptr: a, rows: m, key: null }, { ptr: b, rows: n, key: null }, k, got);
        const wanted = new Int32Array(engine.u8(want, sizes[2]).buffer, want, m * n);
        const given = new Int32Array(engine.u8(got, sizes[3]).buffer, got, m * n);
        const at = wanted.findIndex((value, i) => value !== given[i]);
        if (at >= 0) return `${m}×${n}×${k}, fill ${f}: element ${at} is ${given[at]}, not ${wanted[at]}`;
      }
    } finally {
      for (const [i, ptr] of [a, b, want, got].entries()) engine.free(ptr, sizes[i] ?? 0);
    }
  }
  return null;
}

/**
 * MiB of memory that could be allocated and touched, in steps, up to `maxMib`. Every page is written, since
 * an untouched allocation costs nothing and proves nothing; everything is let go again.
 */
export function probeMemory(maxMib: number, stepMib = 64): number {
  const held: Uint8Array[] = [];
  let mib = 0;
  try {
    while (mib < maxMib) {
      const step = Math.min(stepMib, maxMib - mib);
      const block = new Uint8Array(step * 1024 * 1024);
      for (let at = 0; at < block.length; at += 4096) block[at] = 1;
      held.push(block);
      mib += step;
    }
  } catch {
    // The allocation that was refused says how much there is.
  }
  held.length = 0;
  return mib;
}
