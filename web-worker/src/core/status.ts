/** What a worker is told and what it tells: settings, status, and words for how a session can end. */
import type { Refusal, Trial } from "../gpu/choose.ts";
import type { Backends } from "./compute.ts";
import type { Rate } from "./measure.ts";
import type { Shown } from "./proofs.ts";
import type { BackendName } from "./types.ts";

export type Settings = {
  /** http(s)://host, without a path. */
  mesh: string;
  agent: string;
  backend: Backends;
  /** Force one kernel variant, by its name in the manifest. */
  kernel?: string;
  memoryMib: number;
  /** Give up when nobody has ever answered after so many tries; without it, try for ever. */
  firstTries?: number;
};

/** How a worker ended. `code`: the close code of a refusal (docs/protocol.md §1.2). */
export type Ending =
  | { why: "stopped" }
  | { why: "refused"; code: number; message: string }
  | { why: "unreachable" | "failed"; message: string };

/** What a host says to its people. */
export type Words = { final: Readonly<Record<number, string>>; error(error: unknown): string };

export type State = "preparing" | "connecting" | "waiting" | "computing" | "reconnecting" | "stopped" | "failed";

/** `ops`: multiplications and additions in the verified tasks. */
export type Credit = { tasks: number; ops: number };

/** The credit in a heartbeat's answer, or null where there is none to understand. */
export function creditOf(value: unknown): Credit | null {
  const { tasks, ops } = (typeof value === "object" && value !== null ? value : {}) as Partial<Credit>;
  // A fast device's operations pass 2⁵³ in hours; as a number they lose their last digits, which nobody is shown.
  const good = [tasks, ops].every((n) => typeof n === "number" && Number.isFinite(n) && n >= 0);
  return good ? { tasks: tasks as number, ops: ops as number } : null;
}

export type Status = {
  state: State;
  message: string;
  tier: string | null;
  session: string | null;
  key: string | null;
  backend: BackendName | null;
  gpu: string | null;
  kernel: string | null;
  gops: number;
  wasmRate: Rate | null;
  gpuRate: Rate | null;
  trials: Trial[];
  refused: Refusal[];
  engine: string | null;
  tasksDone: number;
  tasksFailed: number;
  doneBy: Record<string, number>;
  /** What the mesh has verified of this key, ever; null until it said so. */
  credit: Credit | null;
  work: string | null;
  /** The proof in the making. */
  proof: Shown | null;
  /** Tiles of results that were proved. */
  proofsMade: number;
  lastDigest: string | null;
  /** Sentences for the person at the page, newest last. */
  notes: string[];
};

export const NEW_STATUS: Readonly<Status> = {
  state: "preparing",
  message: "Loading…",
  tier: null,
  session: null,
  key: null,
  backend: null,
  gpu: null,
  kernel: null,
  gops: 0,
  wasmRate: null,
  gpuRate: null,
  trials: [],
  refused: [],
  engine: null,
  tasksDone: 0,
  tasksFailed: 0,
  doneBy: {},
  credit: null,
  work: null,
  proof: null,
  proofsMade: 0,
  lastDigest: null,
  notes: [],
};

/** Close codes after which another attempt would end the same way, in words. */
const FINAL: Readonly<Record<number, string>> = {
  4400: "The mesh and this page don't understand each other. Reload the page to update it.",
  4401: "The mesh did not accept this device's key or its test result.",
  4403: "The mesh has banned this device after a proven wrong result.",
  4406: "This page is too old for the mesh. Reload it.",
  4409: "This device joined again from another tab. This one has stopped.",
  4413: "A message was larger than the mesh allows. Reload the page to update it.",
};

function inWords(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (/Ed25519|NotSupported|Unrecognized name/i.test(text)) {
    return "This browser can't make the kind of key that the mesh needs (Ed25519). A current browser can.";
  }
  if (/no room|memory/i.test(text)) return "There is not enough free memory to take part.";
  return `Something went wrong: ${text}`;
}

export const PAGE_WORDS: Words = { final: FINAL, error: inWords };
