/** Words of the worker protocol as types (docs/protocol.md). */

/** `l` bytes at `o` of the blob with digest `d`: `r` rows of `c` columns (warm-up rows counted in `l` only). */
export type Operand = { d: string; o: number; l: number; r: number; c: number };

/** Pre-execution, docs/protocol.md §4.3. `row0*` is the first row to produce of that operand. */
export type Pre = {
  lo: number;
  hi: number;
  ema_axis: -1 | 0 | 1;
  alpha: number;
  warm_rows: number;
  segment_rows: number;
  row0?: number;
  row0_a?: number;
  row0_b?: number;
  scale: "row" | "tensor";
};

export type Lease = {
  lease: string;
  task: string;
  job: string;
  kind: string;
  deadline_ms: number;
  p: Record<string, unknown>;
  trace?: string;
};

export type Carry = [digest: string, offset: number, length: number, segment: number];

/** One finished lease as it travels; `bytes` is null where they were uploaded. `leaf` stays here, for the signature. */
export type Result = {
  lease: string;
  task: string;
  digest: Uint8Array;
  len: number;
  ms: number;
  backend: BackendName;
  spans: Record<string, number>;
  bytes: Uint8Array | null;
  leaf: Uint8Array;
};

export type BackendName = "wasm" | "webgpu";
export type FailCode = "oom" | "device-lost" | "fetch" | "unsupported" | "internal";

/** A lease that can't be finished here; `code` travels in the `failed` frame. */
export class WorkError extends Error {
  constructor(
    readonly code: FailCode,
    message: string,
  ) {
    super(message);
  }
}

export const LIMITS = {
  results_per_frame: 512,
  carried_bytes: 256 * 1024,
  handshake_ms: 60_000,
  heartbeat_ms: 15_000,
  /** Each counts four times of the protocol's 2,000: this leaves room for other frames and clock differences. */
  result_frames_per_s: 375,
  agent_chars: 120,
} as const;

export const operandKey = (op: { d: string; o: number; l: number }): string => `${op.d}:${op.o}:${op.l}`;
