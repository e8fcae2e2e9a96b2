/**
 * What a job asks for, if a mesh takes such a job: the rules of libs/shardy_common/kinds.py that a receipt can break.
 */
import { FormError } from "./json.ts";
import { DIGEST, METHODS, type JobStatement, type Operand, type Pre, type TaskStatement } from "./statements.ts";

const K_MAX = 65_535;
const SIDE_MAX = 2 ** 20;
const BLOB_BYTES_MAX = 2 ** 30;
const REDUNDANCY_MAX = 7;
const AUDIT_ROUNDS_MAX = 8;
const WARM_ROWS_MAX = 65_536;
const WARM_FACTOR_MAX = 16;
const BOUND_MAX = 2 ** 126;
export const ITEM_BYTES: Readonly<Record<string, number>> = { int8: 1, float32: 4, int32: 4 };

export type Kind = "matmul" | "stream";

/** rows, cols: of a whole result. inner: k of a product. pre: with its numbers read. */
export type Spec = {
  kind: Kind;
  rows: number;
  cols: number;
  inner: number;
  operands: ReadonlyMap<string, Operand>;
  pre: { segmentRows: number; warmRows: number } | null;
};

const NUMBER = /^-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?$/;

/** A float as Python writes it (`repr`): the shortest digits that give it back, with `.0`, and e from 16 digits on. */
export function written(value: number): string {
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [mantissa, power] = Math.abs(value).toExponential().split("e") as [string, string];
  const [digits, exponent] = [mantissa.replace(".", ""), Number(power)];
  const sign = value < 0 ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    return `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

function float(text: string): number {
  const value = NUMBER.test(text) ? Number(text) : NaN;
  if (!Number.isFinite(value) || written(value) !== text) {
    throw new FormError(`'${text}' is not how a number is written`);
  }
  return value;
}

/** Rows after which an EMA's memory of what came before is under 2⁻²⁵ of it. */
export function warmRows(axis: number, alpha: number): number {
  return axis !== 0 || alpha >= 1 ? 0 : Math.ceil((25 * Math.log(2)) / -Math.log1p(-alpha));
}

/** The job as it was asked for. FormError where no mesh takes such a job. */
export function specOf(statement: TaskStatement | JobStatement): Spec {
  const { operands, redundancy, audit_rounds, policy } = statement;
  const pre = statement.pre === null ? null : readPre(statement.pre);
  const kind = statement.kind;
  if (kind !== "matmul" && kind !== "stream") throw new FormError(`kind '${kind}' is not known`);
  const names = kind === "matmul" ? ["a", "b"] : ["x"];
  if (operands.size !== names.length || !names.every((name) => operands.has(name))) {
    throw new FormError(`kind ${kind} takes the operands ${names.join(", ")}`);
  }
  if (redundancy < 2 || redundancy > REDUNDANCY_MAX) throw new FormError(`redundancy is 2 to ${REDUNDANCY_MAX}`);
  if (audit_rounds < 2 || audit_rounds > AUDIT_ROUNDS_MAX) {
    throw new FormError(`audit_rounds is 2 to ${AUDIT_ROUNDS_MAX}`);
  }
  for (const [name, operand] of operands) checkOperand(name, operand);
  if (pre !== null) checkPre(pre);
  const spec = kind === "matmul" ? productOf(operands, pre) : streamOf(operands, pre);
  if (pre !== null && pre.warm_rows !== warmRows(pre.ema_axis, pre.alpha)) {
    throw new FormError("its warm-up rows are not those of its alpha");
  }
  if (!METHODS.has(policy)) throw new FormError(`its policy '${policy}' is not known`);
  return spec;
}

type ReadPre = Omit<Pre, "lo" | "hi" | "alpha"> & { lo: number; hi: number; alpha: number };

const readPre = (pre: Pre): ReadPre => ({ ...pre, lo: float(pre.lo), hi: float(pre.hi), alpha: float(pre.alpha) });

function productOf(operands: ReadonlyMap<string, Operand>, pre: ReadPre | null): Spec {
  const [a, b] = [operands.get("a") as Operand, operands.get("b") as Operand];
  if (a.dtype !== b.dtype) throw new FormError(`operand a is ${a.dtype} and b is ${b.dtype}`);
  if (a.cols !== b.cols) throw new FormError(`a has ${a.cols} columns and b has ${b.cols}`);
  if (a.cols > K_MAX) throw new FormError(`k = ${a.cols} is over the limit of ${K_MAX}`);
  if ((a.dtype === "float32") !== (pre !== null)) {
    throw new FormError("float32 operands need pre, and int8 operands have none");
  }
  return { kind: "matmul", rows: a.rows, cols: b.rows, inner: a.cols, operands, pre: steps(pre) };
}

function streamOf(operands: ReadonlyMap<string, Operand>, pre: ReadPre | null): Spec {
  const x = operands.get("x") as Operand;
  if (x.dtype !== "float32" || pre === null) throw new FormError("a stream's operand x is float32, and needs pre");
  return { kind: "stream", rows: x.rows, cols: x.cols, inner: 0, operands, pre: steps(pre) };
}

const steps = (pre: ReadPre | null): Spec["pre"] =>
  pre && { segmentRows: pre.segment_rows, warmRows: pre.warm_rows };

function checkOperand(name: string, { dtype, digest, rows, cols }: Operand): void {
  if (dtype !== "int8" && dtype !== "float32") throw new FormError(`operand ${name} has dtype '${dtype}'`);
  if (!DIGEST.test(digest)) throw new FormError(`operand ${name}'s digest is not 64 lower-case hex digits`);
  for (const side of [rows, cols]) {
    if (side < 1 || side > SIDE_MAX) throw new FormError(`operand ${name} has a side of ${side}: 1 to ${SIDE_MAX}`);
  }
  const size = rows * cols * (ITEM_BYTES[dtype] as number);
  if (size > BLOB_BYTES_MAX) throw new FormError(`operand ${name} has ${size} bytes: at most ${BLOB_BYTES_MAX}`);
}

function checkPre({ lo, hi, ema_axis, alpha, scale, segment_rows }: ReadPre): void {
  if (Math.max(Math.abs(lo), Math.abs(hi)) > BOUND_MAX) throw new FormError("pre.lo and pre.hi are at most 2¹²⁶");
  if (!(Math.fround(lo) < Math.fround(hi))) throw new FormError("pre.lo is below pre.hi, in float32 too");
  if (!(alpha > 0 && alpha <= 1 && Math.fround(alpha) > 0)) throw new FormError("pre.alpha is over 0 and at most 1");
  if (scale !== "row" && scale !== "tensor") throw new FormError("pre.scale is row or tensor");
  if (segment_rows < 1 || segment_rows > SIDE_MAX) throw new FormError(`pre.segment_rows is 1 to ${SIDE_MAX}`);
  const warm = warmRows(ema_axis, alpha);
  if (warm > WARM_ROWS_MAX || warm > WARM_FACTOR_MAX * segment_rows) {
    throw new FormError(`pre.alpha = ${alpha} remembers ${warm} rows: too many`);
  }
}

/** Bytes of a tile's result (docs/protocol.md §4). */
export function resultBytes(spec: Spec, rows: number, cols: number): bigint {
  const [down, across] = [BigInt(rows), BigInt(cols)];
  if (spec.kind === "stream") return 4n * down + down * across;
  return 4n * down * across + (spec.pre === null ? 0n : 4n * (down + across));
}

/** Operations of a tile, as credit counts them: a product's are exact, a stream's follow from its warm-up rows. */
export function opsOf(spec: Spec, rows: number, cols: number): bigint {
  const cells = BigInt(rows) * BigInt(cols);
  if (spec.kind === "matmul") return 2n * cells * BigInt(spec.inner);
  const factor = spec.pre === null ? 1 : 1 + spec.pre.warmRows / spec.pre.segmentRows;
  return BigInt(Math.ceil(Number(40n * cells) * factor));
}
