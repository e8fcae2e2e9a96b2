/** The worker's status in words and figures for people. Pure. */
import type { State, Status } from "../core/status.ts";

export type Display = {
  state: string;
  mood: State;
  message: string;
  speed: string;
  done: string;
  verified: string;
  credit: string;
  backend: string;
  tier: string;
  work: string;
  /** What is being proved; part: 0 … 1. */
  proof: { text: string; part: number } | null;
  notes: string[];
  details: [term: string, text: string][];
};

const STATES: Readonly<Record<State, string>> = {
  preparing: "Getting ready",
  connecting: "Connecting",
  waiting: "Joined, waiting for work",
  computing: "Computing",
  reconnecting: "Connection lost",
  stopped: "Stopped",
  failed: "Not taking part",
};

/** `gops`: 10⁹ multiplies and adds a second. */
export function speed(gops: number): string {
  if (gops <= 0) return "–";
  if (gops >= 1000) return `${(gops / 1000).toPrecision(3)} TOPS`;
  return `${gops.toPrecision(3)} GOPS`;
}

const MILLION = 1_000_000;

/** Short however large, so that a figure stays on its line. */
export function counted(n: number): string {
  return n < MILLION ? n.toLocaleString("en") : `${Number((n / MILLION).toPrecision(4)).toLocaleString("en")} million`;
}

/** One credit for 10⁹ verified operations. */
export function creditOfOps(ops: number): string {
  const credit = ops / 1e9;
  if (credit === 0) return "0";
  if (credit < 0.01) return "under 0.01";
  if (credit >= MILLION) return counted(credit);
  return credit.toLocaleString("en", { maximumFractionDigits: credit < 10 ? 2 : credit < 1000 ? 1 : 0 });
}

export const gigabytes = (mib: number): string => (mib >= 1024 ? `${Number((mib / 1024).toFixed(1))} GB` : `${mib} MB`);

const capital = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

export function displayOf(status: Status): Display {
  const backend = { webgpu: "Graphics unit", wasm: "Processor" };
  const { wasmRate, gpuRate, proof } = status;
  // A device with no task at hand but a proof is at work all the same.
  const proving = status.state === "waiting" && proof !== null;
  const details: [string, string | null][] = [
    ["Graphics adapter", status.gpu],
    ["Kernel", status.kernel],
    ["Processor speed", wasmRate && speed(wasmRate.gops)],
    ["Graphics speed", gpuRate && speed(gpuRate.gops)],
    ["Kernels tried", status.trials.map((t) => `${t.variant} ${speed(t.gops)}`).join(", ") || null],
    ["Proofs made", status.proofsMade > 0 ? counted(status.proofsMade) : null],
    ["Tasks given back", status.tasksFailed > 0 ? String(status.tasksFailed) : null],
    ["Device key", status.key],
    ["Engine", status.engine],
    ["Last result", status.lastDigest],
  ];
  return {
    state: proving ? "Proving results" : STATES[status.state],
    mood: proving ? "computing" : status.state,
    message: status.message,
    speed: speed(status.gops),
    done: counted(status.tasksDone),
    verified: status.credit === null ? "–" : counted(status.credit.tasks),
    credit: status.credit === null ? "–" : creditOfOps(status.credit.ops),
    backend: status.backend === null ? "–" : backend[status.backend],
    tier: status.tier ?? "–",
    work: status.state === "computing" && status.work !== null ? `${status.work}…` : "",
    proof: proof && { text: `${capital(proof.text)}…`, part: proof.part },
    notes: status.notes,
    details: details.filter((d): d is [string, string] => d[1] !== null),
  };
}
