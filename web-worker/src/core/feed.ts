/** Keeps operands coming ahead of the work: pins what is in memory, starts transfers, lets go afterwards. */
import { kindOf } from "./kinds.ts";
import type { OperandStore } from "./operands.ts";
import type { Entry, LeaseQueue } from "./queue.ts";
import { type Lease, operandKey } from "./types.ts";

export class Feed {
  constructor(
    readonly store: OperandStore,
    readonly queue: LeaseQueue,
    readonly stopping: AbortSignal,
  ) {}

  /** Leases whose operands all lie in memory are ready without any promise. */
  pinWhatIsHere(entry: Entry): void {
    const { store } = this;
    const pinned: string[] = [];
    try {
      for (const op of kindOf(entry.lease).operands(entry.lease.p)) {
        const key = operandKey(op);
        if (!store.pinIfHere(key)) {
          store.unpin(pinned);
          return;
        }
        pinned.push(key);
      }
      entry.keys = pinned;
      entry.ready = true;
    } catch {
      // What is wrong with the lease is said when its turn comes.
      store.unpin(pinned);
    }
  }

  /** Starts transfers for upcoming leases in order, as far as the cache has room; the head always gets its own. */
  prefetch(): void {
    const { store } = this;
    let room = store.roomBytes;
    let first = true;
    for (const entry of this.queue.upcoming()) {
      if (!entry.ready && entry.operands === null) {
        const bytes = this.#operandBytes(entry.lease);
        if (!first && bytes > room) return;
        room -= bytes;
        entry.operands = this.#acquire(entry);
        // An unawaited failure is reported when the lease's turn comes.
        entry.operands.catch(() => undefined);
      }
      first = false;
    }
  }

  #operandBytes(lease: Lease): number {
    try {
      return kindOf(lease)
        .operands(lease.p)
        .reduce((sum, op) => sum + op.l, 0);
    } catch {
      return 0;
    }
  }

  async #acquire(entry: Entry): Promise<void> {
    const { store, stopping } = this;
    const keys: string[] = [];
    entry.keys = keys;
    const operands = kindOf(entry.lease).operands(entry.lease.p);
    const results = await Promise.allSettled(
      operands.map(async (op) => {
        await store.acquire(op, stopping);
        keys.push(operandKey(op));
      }),
    );
    const failure = results.find((r) => r.status === "rejected");
    if (failure !== undefined) throw failure.reason;
    entry.ready = true;
  }

  /** Lets go of the operands, now or when their transfer ends. */
  release(entry: Entry): void {
    const unpin = (): void => {
      this.store.unpin(entry.keys ?? []);
      entry.keys = null;
    };
    if (entry.ready || entry.operands === null) unpin();
    else void entry.operands.then(unpin, unpin);
  }
}
