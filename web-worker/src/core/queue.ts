/**
 * Leases from arrival to the start of work, in the order received. No I/O.
 *
 * A lease id is known from `add` until `forget`; an id that is known is the same lease and is not added twice.
 */
import type { Lease } from "./types.ts";

export type Entry = {
  readonly lease: Lease;
  /** Cache keys pinned for this lease, once its operands are being fetched. */
  keys: string[] | null;
  /** Settles when the operands are in memory; null while nobody asked for them. */
  operands: Promise<void> | null;
  /** True as soon as every operand is in memory, so that small work can start without a turn of the event loop. */
  ready: boolean;
};

export class LeaseQueue {
  readonly #known = new Map<string, Entry>();
  #waiting: Entry[] = [];
  #head = 0;

  get waiting(): number {
    return this.#waiting.length - this.#head;
  }

  get known(): number {
    return this.#known.size;
  }

  ids(): string[] {
    return [...this.#known.keys()];
  }

  /** The new entry, or null when the lease is known. */
  add(lease: Lease): Entry | null {
    if (this.#known.has(lease.lease)) return null;
    const entry: Entry = { lease, keys: null, operands: null, ready: false };
    this.#known.set(lease.lease, entry);
    this.#waiting.push(entry);
    return entry;
  }

  /** Drops leases that have not been started; returns them, so that their operands can be let go. */
  cancel(ids: readonly string[]): Entry[] {
    const unwanted = new Set(ids);
    const dropped: Entry[] = [];
    const kept: Entry[] = [];
    for (const entry of this.#waiting.slice(this.#head)) {
      if (unwanted.has(entry.lease.lease)) dropped.push(entry);
      else kept.push(entry);
    }
    for (const entry of dropped) this.#known.delete(entry.lease.lease);
    this.#waiting = kept;
    this.#head = 0;
    return dropped;
  }

  peek(): Entry | undefined {
    return this.#waiting[this.#head];
  }

  /** Starts the head: it waits no longer, and stays known. */
  shift(): Entry | undefined {
    const entry = this.#waiting[this.#head];
    if (entry === undefined) return undefined;
    this.#head += 1;
    if (this.#head > 64 && this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    return entry;
  }

  /** Waiting entries in order, for prefetching. */
  *upcoming(): Generator<Entry> {
    for (let i = this.#head; i < this.#waiting.length; i++) {
      const entry = this.#waiting[i];
      if (entry !== undefined) yield entry;
    }
  }

  /** The lease is finished, failed or given back. */
  forget(id: string): void {
    this.#known.delete(id);
  }

  /** Everything that has not been started is let go (on leaving). */
  clear(): Entry[] {
    return this.cancel([...this.upcoming()].map((e) => e.lease.lease));
  }
}
