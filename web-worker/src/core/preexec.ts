/**
 * Pre-execution of one operand slice (docs/protocol.md §4.3): clamp, EMA, quantise; the EMA down the rows starts anew
 * in each segment, so the bytes do not depend on how rows were split among devices.
 */
import type { Engine } from "../engine/engine.ts";
import { type Pre, WorkError } from "./types.ts";

/** One call of the engine: `rowsIn` rows from `firstRow` of the slice, of which `warmRows` only feed the EMA. */
export type Step = { firstRow: number; rowsIn: number; warmRows: number };

/**
 * The calls that produce rows `row0 … row0 + rows − 1` from a slice of `rowsIn` rows which begins
 * `min(warm_rows, row0)` rows before `row0`.
 */
export function planSegments(pre: Pre, row0: number, rows: number, rowsIn: number): Step[] {
  const before = rowsIn - rows;
  if (pre.ema_axis !== 0) return [{ firstRow: before, rowsIn: rows, warmRows: 0 }];
  const { segment_rows, warm_rows } = pre;
  if (segment_rows < 1 || row0 % segment_rows !== 0 || before !== Math.min(warm_rows, row0)) {
    throw new WorkError("unsupported", "a slice starts at a segment boundary, with its warm-up rows before it");
  }
  const sliceStart = row0 - before;
  const steps: Step[] = [];
  for (let start = row0; start < row0 + rows; start += segment_rows) {
    const end = Math.min(start + segment_rows, row0 + rows);
    const warmStart = Math.max(0, start - warm_rows);
    steps.push({ firstRow: warmStart - sliceStart, rowsIn: end - warmStart, warmRows: start - warmStart });
  }
  return steps;
}

/** Both results in one allocation: scale f32[rows], then q int8[rows · cols] (the layout of a `stream` result). */
export const preexecBytes = (rows: number, cols: number): number => rows * 4 + rows * cols;

export type Slice = { x: number; rowsIn: number; row0: number; rows: number; cols: number };

/** Rows a call may take when rows do not depend on each other: keeps a call under some 10 ms. */
const VALUES_PER_CALL = 4 * 1024 * 1024;

/** Writes `preexecBytes` bytes at `out`; `breathe` is awaited between calls, so that others get their turn. */
export function* preexecSteps(engine: Engine, slice: Slice, pre: Pre, out: number): Generator<void> {
  const { cols, rows } = slice;
  const bounds = {
    lo: pre.lo,
    hi: pre.hi,
    axis: pre.ema_axis,
    alpha: pre.ema_axis === -1 ? 1 : pre.alpha,
    tensorAbsmax: pre.scale === "tensor" ? Math.max(Math.abs(pre.lo), Math.abs(pre.hi)) : -1,
  };
  const q = out + rows * 4;
  let row = 0;
  const run = (firstRow: number, rowsIn: number, warmRows: number): void => {
    const x = slice.x + firstRow * cols * 4;
    engine.preexec(x, rowsIn, warmRows, cols, bounds, q + row * cols, out + row * 4);
    row += rowsIn - warmRows;
  };
  for (const step of planSegments(pre, slice.row0, rows, slice.rowsIn)) {
    if (pre.ema_axis === 0) {
      run(step.firstRow, step.rowsIn, step.warmRows);
      yield;
      continue;
    }
    const most = Math.max(1, Math.floor(VALUES_PER_CALL / cols));
    for (let at = 0; at < step.rowsIn; at += most) {
      run(step.firstRow + at, Math.min(most, step.rowsIn - at), 0);
      yield;
    }
  }
}
