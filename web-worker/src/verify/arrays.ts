/**
 * A receipt against the arrays themselves: operands by their digests, results tile by tile, and what proofs state by
 * public signals computed anew. As libs/shardy_common/receipts/arrays.py.
 */
import { hex } from "../engine/engine.ts";
import { circuitNamed, type Context, signalsOf, witnessOf } from "../prove/signals.ts";
import { joined } from "./bytes.ts";
import type { Host } from "./host.ts";
import { load } from "./json.ts";
import { cut, type Dtype, type Matrix, SIZE, transposed } from "./npy.ts";
import { gridOf } from "./proofs.ts";
import { specOf } from "./spec.ts";
import { type Proved, readJob, readTask, type TaskStatement } from "./statements.ts";

const DIFFERING_MAX = 100;

/** What an array of a receipt must be. role: of an operand there is a digest, of a result's parts one of each tile. */
export type Wanted = { name: string; dtype: Dtype; shape: number[]; role: "operand" | "result" };

/** differing: tasks (id and tile) whose bytes are others, the first hundred. tiles: how many were compared. operands:
 * names of those that were. proofs: whose public signals were computed again from these arrays. */
export class ArrayReport {
  readonly problems: string[] = [];
  readonly differing: { task: string; tile: number[] }[] = [];
  tiles = 0;
  readonly operands: string[] = [];
  proofs = 0;

  get ok(): boolean {
    return this.problems.length === 0;
  }
}

type Progress = (done: number, of: number) => Promise<void> | void;

/** What a receipt that `check` has passed is about. */
export class Subject {
  readonly tasks: TaskStatement[];
  readonly wanted: Wanted[];
  readonly #digests = new Map<string, string>();

  constructor(receipt: Uint8Array | string) {
    const document = load(receipt);
    const statement = document.statement ?? null;
    const listed = Array.isArray(document.tasks) ? document.tasks : [statement];
    this.tasks = listed.map((task) => readTask(task, "task"));
    const spec = specOf(document.tasks === undefined ? readTask(statement, "task") : readJob(statement, "job"));
    this.wanted = [...spec.operands].map(([name, { dtype, rows, cols, digest }]) => {
      this.#digests.set(name, digest);
      return { name, dtype: dtype as Dtype, shape: [rows, cols], role: "operand" };
    });
    const part = (name: string, dtype: Dtype, ...shape: number[]): number =>
      this.wanted.push({ name, dtype, shape, role: "result" });
    const { rows, cols } = spec;
    if (spec.kind === "stream") {
      part("scale", "float32", rows);
      part("q", "int8", rows, cols);
      return;
    }
    if (spec.pre !== null) {
      part("a_scale", "float32", rows);
      part("b_scale", "float32", cols);
    }
    part("c", "int32", rows, cols);
  }

  /** Whether these arrays are those of the receipt. b may be k×n, as it is multiplied, or n×k, as it is stored. */
  async compare(arrays: ReadonlyMap<string, Matrix>, host: Host, onProgress?: Progress): Promise<ArrayReport> {
    const report = new ArrayReport();
    const given = new Map<string, Matrix>();
    const strange = [...arrays.keys()].filter((name) => !this.wanted.some((wanted) => wanted.name === name));
    if (strange.length > 0) report.problems.push(`no such array here: ${strange.join(", ")}`);
    for (const wanted of this.wanted) {
      const matrix = arrays.get(wanted.name);
      if (matrix === undefined) continue;
      const fitting = this.#fitting(wanted, matrix, host);
      if (fitting === null) {
        const found = `${matrix.dtype} of ${matrix.shape.join("×")}`;
        report.problems.push(
          `${wanted.name} is ${found}: the receipt is about ${wanted.dtype} of ${wanted.shape.join("×")}`,
        );
        continue;
      }
      given.set(wanted.name, fitting);
      if (wanted.role !== "operand") continue;
      report.operands.push(wanted.name);
      if (digest(host, fitting.bytes) !== this.#digests.get(wanted.name)) {
        report.problems.push(`operand ${wanted.name} is not the one that the receipt is about`);
      }
    }
    await this.#result(report, given, host, onProgress);
    return report;
  }

  /** The array as it is stored; of two ways to read b, the one whose digest is right. */
  #fitting({ name, dtype, shape }: Wanted, matrix: Matrix, host: Host): Matrix | null {
    if (matrix.dtype !== dtype) return null;
    const fits = (found: Matrix): boolean =>
      found.shape.length === shape.length && found.shape.every((side, at) => side === shape[at]);
    const turned = name === "b" && matrix.shape.length === 2 ? transposed(matrix) : null;
    if (turned !== null && fits(turned)) {
      if (!fits(matrix) || digest(host, turned.bytes) === this.#digests.get(name)) return turned;
    }
    return fits(matrix) ? matrix : null;
  }

  async #result(
    report: ArrayReport,
    given: ReadonlyMap<string, Matrix>,
    host: Host,
    onProgress: Progress | undefined,
  ): Promise<void> {
    const parts = this.wanted.filter(({ role }) => role === "result");
    const here = parts.filter(({ name }) => given.has(name));
    if (here.length === 0) return;
    if (here.length < parts.length) {
      const names = parts.map(({ name }) => name).join(", ");
      if (report.ok) report.problems.push(`the result's digests are over ${names} together: give all of them`);
      return;
    }
    await this.#tiles(report, given, host, onProgress);
    const [a, b, c] = ["a", "b", "c"].map((name) => given.get(name));
    if (!report.ok || a === undefined || b === undefined || c === undefined) return;
    for (const [at, task] of this.tasks.entries()) {
      if (task.proof !== null) await this.#proofs(report, task, task.proof, { a, b, c }, host);
      await onProgress?.(at + 1, this.tasks.length);
    }
  }

  async #tiles(
    report: ArrayReport,
    given: ReadonlyMap<string, Matrix>,
    host: Host,
    onProgress: Progress | undefined,
  ): Promise<void> {
    let wrong = 0;
    for (const { task, tile, result } of this.tasks) {
      report.tiles += 1;
      if (digest(host, bytesOf(tile, given)) !== result.digest) {
        wrong += 1;
        if (wrong <= DIFFERING_MAX) report.differing.push({ task, tile });
      }
      await onProgress?.(report.tiles, this.tasks.length);
    }
    const [first] = report.differing;
    if (first === undefined) return;
    const [row0, rows, col0, cols] = first.tile as [number, number, number, number];
    report.problems.push(
      `${wrong} of ${report.tiles} tiles differ from what was verified, the first at rows ${row0} to ` +
        `${row0 + rows - 1}, columns ${col0} to ${col0 + cols - 1} (task ${first.task})`,
    );
  }

  /** Whether what the proofs state is so of these bytes: then the receipt's signals are not taken from anybody. */
  async #proofs(
    report: ArrayReport,
    task: TaskStatement,
    proved: Proved,
    { a, b, c }: Record<"a" | "b" | "c", Matrix>,
    host: Host,
  ): Promise<void> {
    const circuit = circuitNamed(proved.circuit);
    const grid = gridOf(circuit, task);
    const { poseidon } = await host.proofs();
    const [row0, , col0] = task.tile as [number, number, number, number];
    for (const tile of proved.proofs) {
      const place = grid.tile(tile.index);
      const left = cut(a, row0 + place.row0, place.rows, 0, tile.k);
      const right = cut(b, col0 + place.col0, place.cols, 0, tile.k);
      const data = cut(c, row0 + place.row0, place.rows, col0 + place.col0, place.cols);
      const digests = [left, right, data].map((bytes) => digest(host, bytes));
      try {
        const context = contextOf(circuit.name, tile);
        const found = signalsOf(poseidon, await witnessOf(circuit, context, left, right, data));
        const stated = [tile.a, tile.b, tile.c, tile.input_commit, tile.result_digest];
        const computed = [...digests, String(found.inputCommit), String(found.resultDigest)];
        if (stated.every((value, at) => value === computed[at])) report.proofs += 1;
        else report.problems.push(`task ${task.task}: what is proved of tile ${tile.index} is not these arrays`);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        report.problems.push(`task ${task.task}: tile ${tile.index} cannot be proved: ${error.message}`);
      }
    }
  }
}

/** Of a context only shape and circuit matter here: its hash is none of what is compared. */
function contextOf(circuit: string, { rows, k, cols }: { rows: number; k: number; cols: number }): Context {
  const hash = new Uint8Array(32);
  const none = new Uint8Array(0);
  const names = { task: "t", worker: hash, nonce: new Uint8Array(1), circuit, vkVersion: "v", vkHash: hash };
  return { ...names, rows, k, cols, seed: none, a: hash, b: hash, c: hash, tile: none };
}

const digest = (host: Host, bytes: Uint8Array): string => hex(host.engine.hashBytes(bytes));

/** The result bytes of a tile, cut out of the whole arrays, in the order of docs/protocol.md §4. */
function bytesOf(tile: readonly number[], parts: ReadonlyMap<string, Matrix>): Uint8Array {
  const [row0, rows, col0, cols] = tile as [number, number, number, number];
  const pieces = ["scale", "q", "a_scale", "b_scale", "c"].flatMap((name) => {
    const part = parts.get(name);
    if (part === undefined) return [];
    if (part.shape.length === 2) return [cut(part, row0, rows, col0, cols)];
    const [from, length] = name === "b_scale" ? [col0, cols] : [row0, rows];
    return [part.bytes.subarray(SIZE[part.dtype] * from, SIZE[part.dtype] * (from + length))];
  });
  return joined(...pieces);
}
