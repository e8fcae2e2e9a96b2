/**
 * The kinds of work (docs/protocol.md §4). A kind names its operands and makes result bytes in linear memory;
 * a new kind is one more entry in `KINDS`.
 */
import type { Engine } from "../engine/engine.ts";
import type { Compute, Matrix } from "./compute.ts";
import type { OperandStore, Stored } from "./operands.ts";
import { preexecBytes, preexecSteps } from "./preexec.ts";
import { nextTurn } from "./timing.ts";
import { type BackendName, type Lease, type Operand, operandKey, type Pre, WorkError } from "./types.ts";

export type Tools = { engine: Engine; store: OperandStore; compute: Compute; stopping: AbortSignal };
/** `len` bytes at `ptr`, allocated from the store; the caller frees them. */
export type Made = { ptr: number; len: number; backend: BackendName; spans: Record<string, number> };

export type Kind = {
  /** In general terms, for the page. */
  title: string;
  operands(p: Record<string, unknown>): Operand[];
  run(lease: Lease, tools: Tools): Made | Promise<Made>;
};

const K_MAX = 65_535;

function unsupported(message: string): never {
  throw new WorkError("unsupported", message);
}

function asOperand(value: unknown, name: string): Operand {
  const op = value as Operand | null;
  const good =
    typeof op === "object" &&
    op !== null &&
    /^[0-9a-f]{64}$/.test(op.d) &&
    [op.o, op.l, op.r].every((n) => Number.isSafeInteger(n) && n >= 0);
  return good ? op : unsupported(`operand ${name} names no bytes`);
}

function asCount(value: unknown, name: string): number {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : unsupported(`${name} is a count`);
}

function asPre(value: unknown): Pre {
  const pre = value as Pre | null;
  if (typeof pre !== "object" || pre === null) unsupported("float32 operands need pre");
  const { lo, hi, ema_axis, alpha, scale } = pre;
  if (!Number.isFinite(lo) || !Number.isFinite(hi) || !(lo < hi)) unsupported("lo and hi are finite, lo under hi");
  if (![-1, 0, 1].includes(ema_axis)) unsupported(`ema_axis ${ema_axis}`);
  if (ema_axis !== -1 && !(alpha > 0 && alpha <= 1)) unsupported(`alpha ${alpha}`);
  if (scale !== "row" && scale !== "tensor") unsupported(`scale ${String(scale)}`);
  return pre;
}

function fits(op: Operand, rows: number, rowBytes: number, name: string): void {
  if (op.l !== rows * rowBytes) unsupported(`operand ${name}: ${op.l} bytes are not ${rows} rows of ${rowBytes}`);
}

function int8Product({ store, compute }: Tools, k: number, a: Operand, b: Operand): Made | Promise<Made> {
  fits(a, a.r, k, "a");
  fits(b, b.r, k, "b");
  const matrix = (op: Operand): Matrix => {
    const stored: Stored = store.get(operandKey(op));
    stored.uses += 1;
    return { ptr: stored.ptr, rows: op.r, key: stored.key, uses: stored.uses };
  };
  const len = a.r * b.r * 4;
  const start = performance.now();
  const out = store.allocate(len);
  const made = (backend: BackendName): Made => ({
    ptr: out,
    len,
    backend,
    spans: { compute: performance.now() - start },
  });
  const release = (error: unknown): never => {
    store.engine.free(out, len);
    throw error;
  };
  try {
    const done = compute.multiply({ a: matrix(a), b: matrix(b), k, out });
    return typeof done === "string" ? made(done) : done.then(made, release);
  } catch (error) {
    return release(error);
  }
}

/** The quantised operand, kept in the cache: leases of one job share it. Returned pinned. */
async function quantised(
  op: Operand,
  row0: number,
  cols: number,
  pre: Pre,
  { engine, store, stopping }: Tools,
): Promise<Stored> {
  const rowBytes = cols * 4;
  if (rowBytes === 0 || op.l % rowBytes !== 0 || op.l < op.r * rowBytes) unsupported("slice is no whole rows");
  const source = operandKey(op);
  const { lo, hi, ema_axis, alpha, warm_rows, segment_rows, scale } = pre;
  const key = `${source}|${[lo, hi, ema_axis, alpha, warm_rows, segment_rows, scale, row0, op.r, cols].join(",")}`;
  if (store.pinIfHere(key)) return store.get(key);
  const len = preexecBytes(op.r, cols);
  const ptr = store.allocate(len);
  try {
    const slice = { x: store.get(source).ptr, rowsIn: op.l / rowBytes, row0, rows: op.r, cols };
    for (const _ of preexecSteps(engine, slice, pre, ptr)) {
      await nextTurn();
      if (stopping.aborted) throw new WorkError("internal", "stopped");
    }
    return store.adopt(key, ptr, len);
  } catch (error) {
    engine.free(ptr, len);
    throw error;
  }
}

async function floatProduct(lease: Lease, tools: Tools, k: number, a: Operand, b: Operand): Promise<Made> {
  const { engine, store, compute } = tools;
  const pre = asPre(lease.p.pre);
  const start = performance.now();
  const qa = await quantised(a, asCount(pre.row0_a ?? 0, "row0_a"), k, pre, tools);
  const pinned = [qa.key];
  try {
    const qb = await quantised(b, asCount(pre.row0_b ?? 0, "row0_b"), k, pre, tools);
    pinned.push(qb.key);
    qb.uses += 1;
    const prepared = performance.now();
    const scales = (a.r + b.r) * 4;
    const len = scales + a.r * b.r * 4;
    const out = store.allocate(len);
    try {
      engine.u8(out, a.r * 4).set(engine.u8(qa.ptr, a.r * 4));
      engine.u8(out + a.r * 4, b.r * 4).set(engine.u8(qb.ptr, b.r * 4));
      const backend = await compute.multiply({
        a: { ptr: qa.ptr + a.r * 4, rows: a.r, key: qa.key, uses: qa.uses },
        b: { ptr: qb.ptr + b.r * 4, rows: b.r, key: qb.key, uses: qb.uses },
        k,
        out: out + scales,
      });
      const spans = { preexec: prepared - start, compute: performance.now() - prepared };
      return { ptr: out, len, backend, spans };
    } catch (error) {
      engine.free(out, len);
      throw error;
    }
  } finally {
    store.unpin(pinned);
  }
}

const matmul: Kind = {
  title: "Multiplying matrices",
  operands: (p) => [asOperand(p.a, "a"), asOperand(p.b, "b")],
  run(lease, tools) {
    const { p } = lease;
    const k = asCount(p.k, "k");
    if (k > K_MAX) unsupported(`k = ${k}; sums stay inside int32 up to ${K_MAX}`);
    const [a, b] = [asOperand(p.a, "a"), asOperand(p.b, "b")];
    if (p.dtype === "int8") return int8Product(tools, k, a, b);
    if (p.dtype === "float32") return floatProduct(lease, tools, k, a, b);
    return unsupported(`dtype ${String(p.dtype)}`);
  },
};

const stream: Kind = {
  title: "Preparing a data stream",
  operands: (p) => [asOperand(p.x, "x")],
  async run(lease, { engine, store, stopping }) {
    const { p } = lease;
    if (p.dtype !== "float32") unsupported(`dtype ${String(p.dtype)}`);
    const pre = asPre(p.pre);
    const [rows, cols] = [asCount(p.rows, "rows"), asCount(p.cols, "cols")];
    const op = asOperand(p.x, "x");
    if (op.l % (cols * 4) !== 0 || op.l < rows * cols * 4) unsupported("slice is no whole rows");
    const start = performance.now();
    const len = preexecBytes(rows, cols);
    const out = store.allocate(len);
    try {
      const source = store.get(operandKey(op));
      const row0 = asCount(pre.row0 ?? 0, "row0");
      for (const _ of preexecSteps(engine, { x: source.ptr, rowsIn: op.l / (cols * 4), row0, rows, cols }, pre, out)) {
        await nextTurn();
        if (stopping.aborted) throw new WorkError("internal", "stopped");
      }
      return { ptr: out, len, backend: "wasm", spans: { preexec: performance.now() - start } };
    } catch (error) {
      engine.free(out, len);
      throw error;
    }
  },
};

export const KINDS: Readonly<Record<string, Kind>> = { matmul, stream };

export function kindOf(lease: Lease): Kind {
  const kind = Object.hasOwn(KINDS, lease.kind) ? KINDS[lease.kind] : undefined;
  return kind ?? unsupported(`kind ${lease.kind}`);
}
