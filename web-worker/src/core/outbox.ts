/** Results from the moment they are finished until an `ack` names them. No I/O: batches for frames out, acks in. */
import { encodeFrame, FRAME_BYTES_MAX, SEGMENTS_MAX } from "./frame.ts";
import { LIMITS, type Result } from "./types.ts";

/** Room kept for the header when results are gathered into one frame. */
const FRAME_FILL_BYTES = FRAME_BYTES_MAX - 1024 * 1024;

/** What will be one `result` frame, once it is signed. */
export type Batch = { readonly results: readonly Result[]; readonly round: number };

/** The frame of a batch and the signature over its results. */
export function resultFrame(batch: Batch, sig: Uint8Array): Uint8Array<ArrayBuffer> {
  const segments: Uint8Array[] = [];
  const results = batch.results.map(({ bytes, leaf: _, ...rest }) => ({
    ...rest,
    s: bytes === null ? null : segments.push(bytes) - 1,
  }));
  return encodeFrame({ t: "result", results, sig }, segments);
}

export class Outbox {
  readonly #unacked = new Map<string, Result>();
  #ready: Result[] = [];
  #readyBytes = 0;
  #round = 0;

  /** Which session's results these are: a batch of an earlier round is due again, and must not be sent. */
  get round(): number {
    return this.#round;
  }

  add(result: Result): void {
    this.#unacked.set(result.lease, result);
    this.#push(result);
  }

  has(lease: string): boolean {
    return this.#unacked.has(lease);
  }

  held(): string[] {
    return [...this.#unacked.keys()];
  }

  get ready(): number {
    return this.#ready.length;
  }

  /** One more result might not fit the frame that is being gathered. */
  get full(): boolean {
    return this.#ready.length >= LIMITS.results_per_frame || this.#readyBytes + LIMITS.carried_bytes > FRAME_FILL_BYTES;
  }

  ack(lease: string): Result | undefined {
    const result = this.#unacked.get(lease);
    this.#unacked.delete(lease);
    return result;
  }

  /** After a new `tier`: everything that no ack has named is due again, in the order it was finished. */
  resend(): void {
    this.#round += 1;
    this.#ready = [];
    this.#readyBytes = 0;
    for (const result of this.#unacked.values()) this.#push(result);
  }

  /** What fits the next frame, or null when nothing is ready. */
  take(): Batch | null {
    let bytes = 0;
    let segments = 0;
    let taken = 0;
    for (const result of this.#ready) {
      const size = result.bytes?.length ?? 0;
      if (taken >= LIMITS.results_per_frame || bytes + size > FRAME_FILL_BYTES || segments >= SEGMENTS_MAX) break;
      bytes += size;
      segments += result.bytes === null ? 0 : 1;
      taken += 1;
    }
    if (taken === 0) return null;
    this.#readyBytes -= bytes;
    return { results: this.#ready.splice(0, taken), round: this.#round };
  }

  #push(result: Result): void {
    this.#ready.push(result);
    this.#readyBytes += result.bytes?.length ?? 0;
  }
}
