/**
 * Everything that can be said of a receipt without the mesh and without the arrays: a second implementation of
 * libs/shardy_common/receipts/checking.py, after docs/receipts.md.
 */
import { hex } from "../engine/engine.ts";
import { joined, utf8 } from "./bytes.ts";
import { Cursor } from "./cursor.ts";
import { verifies } from "./ed25519.ts";
import { type Host, hashOf } from "./host.ts";
import { canonical, FormError, isMap, type Json, type JsonMap, load } from "./json.ts";
import { keysOf, ProofChecker } from "./proofs.ts";
import { count, Report } from "./report.ts";
import { opsOf, resultBytes, type Spec, specOf } from "./spec.ts";
import {
  basisOf,
  boundFits,
  CLAIMS,
  DIGEST,
  FORMAT,
  type JobStatement,
  METHODS,
  readJob,
  readTask,
  type TaskStatement,
} from "./statements.ts";
import { GrowingRoot } from "./tree.ts";
import { WorkerChecker } from "./workers.ts";

const SIGN_TAG = utf8.encode("shardy-receipt-v1\0");
const TASK_TAG = utf8.encode("\0shardy-receipt-task-v1\0");

export type Options = {
  /** Public keys in hex that are trusted: a receipt signed by another is refused. Null: nobody has said one. */
  meshKeys: readonly string[] | null;
  /** Told after each task; what it returns is waited for, so it may give way to others or end the check by throwing. */
  onProgress?: (done: number, of: number) => Promise<void> | void;
};

export async function check(receipt: Uint8Array | string, host: Host, options: Options): Promise<Report> {
  const report = new Report();
  let document: JsonMap;
  let proofs: ProofChecker;
  let read: TaskStatement | JobStatement;
  try {
    document = load(receipt);
    if (!isMap(document.statement)) throw new FormError("statement is missing");
    const isJob = document.statement.type === "job";
    proofs = new ProofChecker(host, keysOf(document));
    const wanted = ["statement", "signature", ...(isJob ? ["tasks"] : []), ...("keys" in document ? ["keys"] : [])];
    const here = Object.keys(document);
    if (here.length !== wanted.length || !wanted.every((name) => here.includes(name))) {
      throw new FormError(`its fields are ${wanted.sort().join(", ")}, here ${here.sort().join(", ")}`);
    }
    read = isJob ? readJob(document.statement, "statement") : readTask(document.statement, "statement");
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    report.problem(`this is no receipt of the format ${FORMAT}: ${error.message}`);
    return report;
  }
  [report.type, report.mesh, report.job] = [read.type, read.mesh, read.job];
  await checkSignature(report, document, host, options);
  const checker = new Checker(report, host, proofs, options);
  try {
    if (read.type === "job") await checker.job(read, document.tasks);
    else await checker.task(read, checker.spec(read));
  } finally {
    proofs.close();
  }
  return report;
}

async function checkSignature(report: Report, document: JsonMap, host: Host, options: Options): Promise<void> {
  const { signature, statement } = document;
  if (!isMap(signature) || Object.keys(signature).sort().join() !== "key,sig") {
    report.problem("the signature is a map of key and sig");
    return;
  }
  const { key, sig } = signature;
  if (typeof key !== "string" || !DIGEST.test(key) || typeof sig !== "string") {
    report.problem("the signature's key is 64, its sig 128 lower-case hex digits");
    return;
  }
  report.key = key;
  const message = joined(SIGN_TAG, utf8.encode(canonical(statement as Json)));
  if (!(await verifies(host.subtle, key, sig, message))) {
    report.problem("the signature does not fit the statement");
  } else if (options.meshKeys !== null) {
    report.vouched = options.meshKeys.includes(key);
    if (!report.vouched) {
      report.problem(`it is signed by ${key}, which is none of the mesh's keys that you trust`);
    }
  }
}

/** Fields in which a job's tasks say the same as the job. */
const COMMON = ["mesh", "job", "kind", "operands", "pre", "policy", "redundancy", "audit_rounds"] as const;

/** Statements against their own logic. */
class Checker {
  readonly workers: WorkerChecker;

  constructor(
    readonly report: Report,
    readonly host: Host,
    readonly proofs: ProofChecker,
    readonly options: Options,
  ) {
    this.workers = new WorkerChecker(report, host);
  }

  /** The job as it was asked for, if its limits and rules hold. */
  spec(statement: TaskStatement | JobStatement): Spec | null {
    try {
      return specOf(statement);
    } catch (error) {
      if (!(error instanceof FormError)) throw error;
      this.report.problem(`this is no job that a mesh takes: ${error.message}`);
      return null;
    }
  }

  async job(job: JobStatement, listed: Json | undefined): Promise<void> {
    const { report } = this;
    const spec = this.spec(job);
    if (!Array.isArray(listed) || listed.length !== job.tasks) {
      const found = Array.isArray(listed) ? listed.length : "no";
      report.problem(`the statement counts ${job.tasks} tasks, and ${found} task statements are listed`);
      return;
    }
    if (spec === null) return;
    if (job.shape[0] !== spec.rows || job.shape[1] !== spec.cols) {
      report.problem(`the shape is ${tuple(job.shape)}: the operands make ${tuple([spec.rows, spec.cols])}`);
    }
    const hash = hashOf(this.host);
    const tree = new GrowingRoot(hash);
    const cursor = new Cursor(spec.rows, spec.cols);
    const common = COMMON.map((name) => [name, comparable(job, name)] as const);
    for (const [index, raw] of listed.entries()) {
      const where = `task ${index}`;
      let task: TaskStatement;
      try {
        task = readTask(raw, "it");
      } catch (error) {
        if (!(error instanceof FormError)) throw error;
        report.problem(`${where} is no task statement: ${error.message}`);
        return;
      }
      tree.add(hash(joined(TASK_TAG, utf8.encode(canonical(raw)))));
      const other = common.filter(([name, text]) => comparable(task, name) !== text).map(([name]) => name);
      if (other.length > 0) {
        report.problem(`${where} says something else than the job about ${other.join(", ")}`);
        continue;
      }
      if (!cursor.take(task.tile)) {
        const tile = tuple(task.tile);
        report.problem(`${where}: its tile ${tile} overlaps another, leaves a gap, or is out of its place`);
        return;
      }
      if (task.seq >= job.seq) report.problem(`${where} was verified after the job's end`);
      await this.task(task, spec);
      await this.options.onProgress?.(index + 1, listed.length);
    }
    if (!cursor.done) report.problem("the tiles do not cover the result");
    if (hex(tree.root()) !== job.tasks_root) report.problem("tasks_root is not that of the listed task statements");
    const { methods } = report;
    if (job.methods.size !== methods.size || [...methods].some(([name, n]) => job.methods.get(name) !== n)) {
      report.problem(`methods: the tasks have {${[...methods].map(([name, n]) => `'${name}': ${n}`).join(", ")}}`);
    }
    if (job.ops !== String(report.ops)) report.problem(`ops: the tasks have ${report.ops} operations`);
  }

  async task(task: TaskStatement, spec: Spec | null): Promise<void> {
    const { report } = this;
    const where = `task ${task.task}`;
    report.tasks += 1;
    count(report.methods, task.method);
    const [row0, rows, col0, cols] = task.tile as [number, number, number, number];
    if (spec !== null) {
      const want = resultBytes(spec, rows, cols);
      if (!(rows > 0 && cols > 0 && row0 + rows <= spec.rows && col0 + cols <= spec.cols)) {
        report.problem(`${where}: the tile ${tuple(task.tile)} is not inside the result's ${spec.rows}×${spec.cols}`);
      } else if (BigInt(task.result.bytes) !== want) {
        report.problem(`${where}: its result has ${task.result.bytes} bytes where the tile makes ${want}`);
      }
      report.ops += opsOf(spec, rows, cols);
      this.#verdict(task, spec.kind === "matmul", where);
      await this.#proved(task, where);
    }
    if (!task.task.startsWith(`${task.job}-${col0}-${row0}-`)) {
      report.problem(`${where}: its id is not one of this job's tasks at row ${row0}, column ${col0}`);
    }
    await this.workers.check(task, where);
  }

  /** Whether the method is one of the policy's, with rounds and workers enough, and claims what it may. */
  #verdict(task: TaskStatement, auditable: boolean, where: string): void {
    const { method, rounds, policy, workers } = task;
    const problem = (text: string): void => this.report.problem(`${where}: ${text}`);
    if (METHODS.get(policy)?.includes(method) !== true) {
      problem(`policy '${policy}' gives no verdict by '${method}'`);
      return;
    }
    if (rounds > 0 && !(auditable && (method === "audit" || method === "arbitration"))) {
      problem(`${method} of a ${task.kind} makes no rounds, and ${rounds} are stated`);
      return;
    }
    if ((method === "audit" || rounds > 0) && rounds < Math.max(task.audit_rounds, 1)) {
      problem(`${rounds} rounds where the job wanted ${task.audit_rounds}`);
      return;
    }
    const basis = basisOf(method, rounds);
    if (basis === null) throw new Error(`no words for a verdict by ${method} after ${rounds} rounds`);
    const [claimed, notClaimed] = CLAIMS[basis];
    if (task.claimed !== claimed || task.not_claimed !== notClaimed) {
      problem(`it claims something else than a verdict by ${method} can`);
    }
    if (!boundFits(task, basis)) problem(`the error bound is not that of ${rounds} rounds`);
    const need = basis !== "agreed" ? 1 : policy === "quorum" ? task.redundancy : 2;
    if (workers.length < need) problem(`${workers.length} workers where ${need} must agree`);
  }

  async #proved(task: TaskStatement, where: string): Promise<void> {
    const { report } = this;
    const { proof, method } = task;
    if ((proof !== null) !== (method === "proof")) {
      report.problem(`${where}: a verdict by ${method} ${proof === null ? "without" : "with"} a proof`);
    } else if (proof !== null) {
      const found = await this.proofs.problems(task, proof);
      for (const text of found) report.problem(`${where}: ${text}`);
      if (found.length > 0) return;
      report.proofs += proof.proofs.length;
      report.development ||= this.proofs.development(proof.vk_hash);
    }
  }
}

const tuple = (numbers: readonly number[]): string => `[${numbers.join(", ")}]`;

/** A text that is the same for the same value, whatever order its keys had. */
function comparable(statement: TaskStatement | JobStatement, name: (typeof COMMON)[number]): string {
  const value = statement[name];
  if (!(value instanceof Map)) return JSON.stringify(value);
  return JSON.stringify([...value].sort(([left], [right]) => (left < right ? -1 : 1)));
}
