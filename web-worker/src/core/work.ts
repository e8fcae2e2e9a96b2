/**
 * From leases to results: keeps operands coming ahead of the work, works in the order received, gathers small
 * results into one frame and uploads large ones while the next lease is computed.
 *
 * Small leases on the engine run back to back without a turn of the event loop, for up to `BATCH_MS`; then their
 * results leave in one frame.
 */
import { hex } from "../engine/engine.ts";
import { upload, type UploadTarget } from "./deliver.ts";
import type { Frame } from "./frame.ts";
import { kindOf, type Made, type Tools } from "./kinds.ts";
import { Outbox } from "./outbox.ts";
import { type Entry, LeaseQueue } from "./queue.ts";
import { nextTurn } from "./timing.ts";
import { type Carry, type FailCode, type Lease, LIMITS, operandKey, type Result, WorkError } from "./types.ts";

export type Wire = {
  /** False where nothing can be sent now (no connection). */
  send(frame: Uint8Array<ArrayBuffer>): boolean;
  mayStartFrame(): boolean;
  failed(lease: string, code: FailCode, message: string): void;
};

export type Progress = {
  started(lease: Lease, title: string): void;
  finished(result: { kind: string; ms: number; ops: number; backend: string; digest: string }): void;
  failed(lease: Lease, error: WorkError): void;
  idle(): void;
};

const BATCH_MS = 4;
/** Results being uploaded while others are computed; more would only hold memory. */
const UPLOADS_MAX = 3;
/** Products queued on a GPU at once: one runs while the bytes of the one before come back. */
const GPU_COMPUTING_MAX = 2;

export class Work {
  readonly queue = new LeaseQueue();
  readonly outbox = new Outbox();
  #active = 0;
  #computing = 0;
  #uploading = 0;
  #looping = false;
  #flushTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    readonly tools: Tools,
    readonly target: UploadTarget,
    readonly wire: Wire,
    readonly progress: Progress,
  ) {}

  get active(): number {
    return this.#active;
  }

  held(): string[] {
    return [...this.queue.ids(), ...this.outbox.held()];
  }

  /** A `lease` frame: its carried operands, then its leases. */
  leases(frame: Frame): void {
    const { store } = this.tools;
    const { carry = [], leases = [] } = frame.header as unknown as { carry?: Carry[]; leases?: Lease[] };
    for (const [digest, offset, length, segment] of carry) {
      const bytes = frame.segments[segment];
      if (bytes === undefined || bytes.length !== length) throw new Error("carry names a segment that is not there");
      store.carry(digest, offset, bytes);
    }
    for (const lease of leases) {
      if (this.outbox.has(lease.lease)) continue;
      const entry = this.queue.add(lease);
      if (entry !== null) this.#pinWhatIsHere(entry);
    }
    store.settle();
    this.#prefetch();
    this.#loop();
  }

  cancel(ids: readonly string[]): void {
    for (const entry of this.queue.cancel(ids)) this.#release(entry);
  }

  acks(acks: readonly [lease: string, outcome: string][]): void {
    for (const [lease] of acks) this.outbox.ack(lease);
  }

  /** After a new `tier`. */
  resend(): void {
    this.outbox.resend();
    this.flush();
    this.#loop();
  }

  drop(): void {
    for (const entry of this.queue.clear()) this.#release(entry);
  }

  flush(): void {
    while (this.outbox.ready > 0) {
      if (!this.wire.mayStartFrame()) {
        this.#flushTimer ??= setTimeout(() => {
          this.#flushTimer = null;
          this.flush();
        }, 5);
        return;
      }
      const frame = this.outbox.frame();
      if (frame !== null && !this.wire.send(frame)) return;
    }
  }

  /** Leases whose operands all lie in memory are ready without any promise. */
  #pinWhatIsHere(entry: Entry): void {
    const { store } = this.tools;
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
  #prefetch(): void {
    const { store } = this.tools;
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
      return kindOf(lease).operands(lease.p).reduce((sum, op) => sum + op.l, 0);
    } catch {
      return 0;
    }
  }

  async #acquire(entry: Entry): Promise<void> {
    const { store, stopping } = this.tools;
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
  #release(entry: Entry): void {
    const unpin = (): void => {
      this.tools.store.unpin(entry.keys ?? []);
      entry.keys = null;
    };
    if (entry.ready || entry.operands === null) unpin();
    else void entry.operands.then(unpin, unpin);
  }

  async #loop(): Promise<void> {
    if (this.#looping) return;
    this.#looping = true;
    try {
      let since = performance.now();
      while (this.#slotFree() && !this.tools.stopping.aborted) {
        const entry = this.queue.peek();
        if (entry === undefined) break;
        if (!entry.ready) {
          this.flush();
          this.#prefetch();
          await this.#headOperands(entry);
          since = performance.now();
          // The head may have been cancelled meanwhile.
          if (this.queue.peek() !== entry) continue;
        }
        this.queue.shift();
        this.#run(entry);
        if (this.outbox.full || performance.now() - since > BATCH_MS) {
          this.flush();
          await nextTurn();
          since = performance.now();
        }
      }
    } finally {
      this.#looping = false;
    }
    this.flush();
    if (this.queue.waiting === 0 && this.#active === 0) this.progress.idle();
  }

  async #headOperands(entry: Entry): Promise<void> {
    try {
      await (entry.operands ?? nextTurn());
    } catch {
      // `#run` meets the same rejection and reports it.
      entry.ready = true;
    }
  }

  #slotFree(): boolean {
    const most = this.tools.compute.main === "webgpu" ? GPU_COMPUTING_MAX : 1;
    return this.#computing < most && this.#uploading < UPLOADS_MAX;
  }

  /** Starts a lease; small ones are finished when this returns. */
  #run(entry: Entry): void {
    const { lease } = entry;
    const start = performance.now();
    this.#active += 1;
    try {
      const kind = kindOf(lease);
      this.progress.started(lease, kind.title);
      const missing = entry.keys === null || entry.keys.length < kind.operands(lease.p).length;
      const made = missing
        ? (entry.operands ?? Promise.resolve()).then(() => kind.run(lease, this.tools))
        : kind.run(lease, this.tools);
      if (made instanceof Promise) void this.#settle(entry, start, made);
      else this.#finish(entry, start, made);
    } catch (error) {
      this.#fail(entry, error);
    }
  }

  async #settle(entry: Entry, start: number, made: Promise<Made>): Promise<void> {
    this.#computing += 1;
    try {
      this.#finish(entry, start, await made);
    } catch (error) {
      this.#fail(entry, error);
    }
    this.#computing -= 1;
    this.#prefetch();
    void this.#loop();
  }

  #finish(entry: Entry, start: number, made: Made): void {
    const { lease } = entry;
    const { engine } = this.tools;
    const hashing = performance.now();
    const digest = engine.hash(made.ptr, made.len);
    const now = performance.now();
    const spans = { ...made.spans, hash: now - hashing };
    const base = { lease: lease.lease, task: lease.task, digest, len: made.len, ms: now - start, backend: made.backend };
    this.#release(entry);
    if (made.len <= LIMITS.carried_bytes) {
      const bytes = engine.u8(made.ptr, made.len).slice();
      engine.free(made.ptr, made.len);
      this.#deliver(lease, { ...base, spans, bytes });
    } else {
      void this.#upload(entry, { ...base, spans, bytes: null }, made);
    }
  }

  async #upload(entry: Entry, result: Result, made: Made): Promise<void> {
    const { engine, stopping } = this.tools;
    const start = performance.now();
    this.#uploading += 1;
    try {
      await upload(this.target, entry.lease.lease, () => engine.u8(made.ptr, made.len), stopping);
      const spans = { ...result.spans, upload: performance.now() - start };
      this.#deliver(entry.lease, { ...result, spans });
    } catch (error) {
      this.#fail(entry, error);
    }
    engine.free(made.ptr, made.len);
    this.#uploading -= 1;
    void this.#loop();
  }

  #deliver(lease: Lease, result: Result): void {
    this.#active -= 1;
    this.queue.forget(lease.lease);
    this.outbox.add(result);
    this.progress.finished({
      kind: lease.kind,
      ms: result.ms,
      ops: operationsOf(lease),
      backend: result.backend,
      digest: hex(result.digest),
    });
  }

  #fail(entry: Entry, error: unknown): void {
    this.#active -= 1;
    this.#release(entry);
    this.queue.forget(entry.lease.lease);
    const known = error instanceof WorkError ? error : new WorkError("internal", String(error));
    if (this.tools.stopping.aborted) return;
    this.wire.failed(entry.lease.lease, known.code, known.message);
    this.progress.failed(entry.lease, known);
  }
}

/** Multiplies and adds of a lease, for the page. */
export function operationsOf(lease: Lease): number {
  const { a, b, k } = lease.p as { a?: { r: number }; b?: { r: number }; k?: number };
  return a && b && k ? 2 * a.r * b.r * k : 0;
}
