/** Results from the moment they are finished until an `ack` names them. No I/O: frames out, acks in. */
import { encodeFrame, FRAME_BYTES_MAX, SEGMENTS_MAX } from "./frame.ts";
import { LIMITS, type Result } from "./types.ts";

/** Room kept for the header when results are gathered into one frame. */
const FRAME_FILL_BYTES = FRAME_BYTES_MAX - 1024 * 1024;

export class Outbox {
  readonly #unacked = new Map<string, Result>();
  #ready: Result[] = [];
  #readyBytes = 0;

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
    this.#ready = [];
    this.#readyBytes = 0;
    for (const result of this.#unacked.values()) this.#push(result);
  }

  /** The next `result` frame, or null when nothing is ready. */
  frame(): Uint8Array<ArrayBuffer> | null {
    if (this.#ready.length === 0) return null;
    const segments: Uint8Array[] = [];
    const results: unknown[] = [];
    let bytes = 0;
    let taken = 0;
    for (const result of this.#ready) {
      const size = result.bytes?.length ?? 0;
      const over =
        taken >= LIMITS.results_per_frame || bytes + size > FRAME_FILL_BYTES || segments.length >= SEGMENTS_MAX;
      if (over) break;
      const { bytes: carried, ...rest } = result;
      results.push({ ...rest, s: carried === null ? null : segments.length });
      if (carried !== null) segments.push(carried);
      bytes += size;
      taken += 1;
    }
    this.#ready.splice(0, taken);
    this.#readyBytes -= bytes;
    return encodeFrame({ t: "result", results }, segments);
  }

  #push(result: Result): void {
    this.#ready.push(result);
    this.#readyBytes += result.bytes?.length ?? 0;
  }
}
