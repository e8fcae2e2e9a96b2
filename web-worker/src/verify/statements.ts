/** What a receipt states, and what may stand behind a verdict (docs/receipts.md). */
import { COUNT_MAX, fields, integer, list, literal, mapOf, matching, nullable, text } from "./shape.ts";

export const FORMAT = "shardy-receipt/1";
const PROOF_TILES_MAX = 64;
const SIDE_MAX = 2 ** 20;
const TILES_MAX = 2 ** 24;
const FREIVALDS_PRIME = 2 ** 31 - 1;

const count = integer(0, COUNT_MAX);
const side = integer(1, SIDE_MAX);
const short = text(200);
export const DIGEST = /^[0-9a-f]{64}$/;
const hash = matching(DIGEST);
const token = matching(/^[A-Za-z0-9_-]{1,160}$/);
const decimal = matching(/^(?:0|[1-9][0-9]{0,40})$/);
const signal = matching(/^(?:0|[1-9][0-9]{0,76})$/);

const operand = fields({ digest: hash, dtype: text(), rows: count, cols: count });

const pre = fields({
  lo: short,
  hi: short,
  ema_axis: integer(-1, 1),
  alpha: short,
  segment_rows: count,
  scale: short,
  warm_rows: count,
});

const credited = fields({
  worker: token,
  key: hash,
  lease: token,
  engine: short,
  kernels: short,
  sig: matching(/^(?:[0-9a-f]{128})?$/),
  index: count,
  count: integer(1, 2 ** 20),
  path: list(hash, 0, 20),
});

const provedTile = fields({
  index: integer(0, TILES_MAX),
  rows: side,
  k: side,
  cols: side,
  a: hash,
  b: hash,
  c: hash,
  input_commit: signal,
  result_digest: signal,
  proof: matching(/^[0-9a-f]{512}$/),
});

const proved = fields({
  lease: token,
  circuit: token,
  version: token,
  vk_hash: hash,
  root: hash,
  nonce: hash,
  tiles: integer(1, TILES_MAX),
  checked: integer(1, PROOF_TILES_MAX),
  proofs: list(provedTile, 1, PROOF_TILES_MAX),
});

export const readTask = fields({
  format: literal(FORMAT),
  type: literal("task"),
  mesh: short,
  job: token,
  task: token,
  kind: short,
  tile: list(count, 4, 4),
  operands: mapOf(operand),
  pre: nullable(pre),
  result: fields({ digest: hash, bytes: count }),
  policy: short,
  redundancy: count,
  audit_rounds: count,
  method: short,
  rounds: count,
  claimed: short,
  not_claimed: short,
  error_bound: nullable(fields({ base: decimal, exponent: integer(1, 64) })),
  workers: list(credited, 1, 64),
  unsigned: list(token),
  proof: nullable(proved),
  protocol: literal(2),
  verified_ms: count,
  seq: count,
});

export const readJob = fields({
  format: literal(FORMAT),
  type: literal("job"),
  mesh: short,
  job: token,
  requester: short,
  kind: short,
  shape: list(count, 2, 2),
  operands: mapOf(operand),
  pre: nullable(pre),
  policy: short,
  redundancy: count,
  audit_rounds: count,
  tasks: integer(1, COUNT_MAX),
  tasks_root: hash,
  methods: mapOf(count),
  ops: decimal,
  submitted_ms: count,
  completed_ms: count,
  seq: count,
});

export type Operand = ReturnType<typeof operand>;
export type Pre = ReturnType<typeof pre>;
export type Credited = ReturnType<typeof credited>;
export type ProvedTile = ReturnType<typeof provedTile>;
export type Proved = ReturnType<typeof proved>;
export type TaskStatement = ReturnType<typeof readTask>;
export type JobStatement = ReturnType<typeof readJob>;

/** Policy → methods that its verdicts may have. */
export const METHODS: ReadonlyMap<string, readonly string[]> = new Map([
  ["quorum", ["quorum", "arbitration"]],
  ["audit", ["audit"]],
  ["adaptive", ["quorum", "audit", "arbitration", "trust"]],
  ["canary", ["canary"]],
  ["proof", ["proof"]],
]);

export type Basis = "audited" | "agreed" | "trusted" | "known" | "proved";

/** What stands behind a verdict → (claimed, not claimed): the only words that a statement may use. */
export const CLAIMS: Readonly<Record<Basis, readonly [claimed: string, notClaimed: string]>> = {
  audited: [
    "every row of the result passed a product check with secret random vectors drawn after its digest stood",
    "that a wrong row can never pass: error_bound says how seldom it does",
  ],
  agreed: [
    "all workers named here gave these very bytes, each under its own key",
    "that the keys belong to different people, or that they did not agree on a wrong answer",
  ],
  trusted: ["a worker with a long record of right results gave these bytes", "that anybody checked this very result"],
  known: [
    "the bytes equal an answer that the mesh had computed before it asked",
    "anything beyond that: the mesh's own computation is the reference",
  ],
  proved: [
    "each tile that is listed was drawn after the result stood, and is proved to be the product of the rows named",
    "tiles that were not drawn; nor anything where somebody knows the randomness of the key's set-up",
  ],
};

/** Null for a verdict that no mesh gives. */
export function basisOf(method: string, rounds: number): Basis | null {
  if ((method === "audit" || method === "arbitration") && rounds > 0) return "audited";
  if (method === "quorum" || method === "arbitration") return "agreed";
  if (method === "proof" && rounds === 0) return "proved";
  if (method === "trust") return "trusted";
  return method === "canary" ? "known" : null;
}

/** Whether the stated bound is the one of so many rounds: each lets a wrong row pass once in 2³¹ − 1. */
export function boundFits(task: TaskStatement, basis: Basis): boolean {
  if (basis !== "audited") return task.error_bound === null;
  return task.error_bound?.base === String(FREIVALDS_PRIME) && task.error_bound.exponent === task.rounds;
}
