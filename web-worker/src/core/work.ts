/**
 * From leases to results: works in the order received, gathers small results into one frame, and uploads large ones
 * while the next lease is computed.
 *
 * Small leases on the engine run back to back without a turn of the event loop, for up to `BATCH_MS`; then their
 * results leave in one frame.
 *
 * A frame is gathered, signed, and sent. One is signed at a time, so frames leave in the order they were gathered, and
 * what is finished meanwhile shares the next one: nothing waits for a signature of its own.
 */
import { type UploadTarget, upload } from "./deliver.ts";
import { Feed } from "./feed.ts";
import type { Frame } from "./frame.ts";
import { kindOf, type Made, type Tools } from "./kinds.ts";
import { leafOf, rootOf } from "./merkle.ts";
import { type Batch, Outbox, resultFrame } from "./outbox.ts";
import { type Entry, LeaseQueue } from "./queue.ts";
import { nextTurn } from "./timing.ts";
import { type Carry, type FailCode, type Lease, LIMITS, type Result, WorkError } from "./types.ts";

export type Wire = {
  /** False where results can't be sent now: they wait for `resend`. */
  open(): boolean;
  mayStartFrame(): boolean;
  /** The signature over the root of a frame's results. */
  sign(root: Uint8Array): Promise<Uint8Array>;
  send(frame: Uint8Array<ArrayBuffer>): void;
  failed(lease: string, code: FailCode, message: string): void;
  /** The worker can't go on: its key does not sign. */
  broken(error: unknown): void;
};

export type Progress = {
  started(lease: Lease, title: string): void;
  finished(result: Result): void;
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
  readonly #feed: Feed;
  readonly outbox = new Outbox();
  #active = 0;
  #computing = 0;
  #uploading = 0;
  #looping = false;
  #signing = false;
  #flushTimer: ReturnType<typeof setTimeout> | null = null;

  readonly #hash = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => this.tools.engine.hashBytes(bytes);

  constructor(
    readonly tools: Tools,
    readonly target: UploadTarget,
    readonly wire: Wire,
    readonly progress: Progress,
  ) {
    this.#feed = new Feed(tools.store, this.queue, tools.stopping);
  }

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
      try {
        store.carry(digest, offset, bytes);
      } catch (error) {
        // Without room for it the lease fetches it in its turn, or gives itself back.
        if (!(error instanceof WorkError)) throw error;
      }
    }
    for (const lease of leases) {
      if (this.outbox.has(lease.lease)) continue;
      const entry = this.queue.add(lease);
      if (entry !== null) this.#feed.pinWhatIsHere(entry);
    }
    store.settle();
    this.#feed.prefetch();
    void this.#loop();
  }

  cancel(ids: readonly string[]): void {
    for (const entry of this.queue.cancel(ids)) this.#feed.release(entry);
  }

  /** The leases among them whose results are not held here. */
  acks(acks: readonly [lease: string, outcome: string][]): string[] {
    return acks.flatMap(([lease]) => (this.outbox.ack(lease) === undefined ? [lease] : []));
  }

  /** After a new `tier`. */
  resend(): void {
    this.outbox.resend();
    this.flush();
    void this.#loop();
  }

  drop(): void {
    for (const entry of this.queue.clear()) this.#feed.release(entry);
  }

  /** Starts the next frame of results unless one is being signed: the end of that starts the next. */
  flush(): void {
    if (this.#signing || this.outbox.ready === 0 || !this.wire.open()) return;
    if (!this.wire.mayStartFrame()) {
      this.#flushTimer ??= setTimeout(() => {
        this.#flushTimer = null;
        this.flush();
      }, 5);
      return;
    }
    const batch = this.outbox.take();
    if (batch !== null) void this.#sendSigned(batch);
  }

  async #sendSigned(batch: Batch): Promise<void> {
    this.#signing = true;
    try {
      const root = rootOf(
        this.#hash,
        batch.results.map((result) => result.leaf),
      );
      const sig = await this.wire.sign(root);
      // After a new `tier` these results are due again, in another frame.
      if (batch.round === this.outbox.round && this.wire.open()) this.wire.send(resultFrame(batch, sig));
    } catch (error) {
      this.wire.broken(error);
      return;
    } finally {
      this.#signing = false;
    }
    this.flush();
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
          this.#feed.prefetch();
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
    this.#feed.prefetch();
    void this.#loop();
  }

  #finish(entry: Entry, start: number, made: Made): void {
    const { lease } = entry;
    const { engine } = this.tools;
    const hashing = performance.now();
    const digest = engine.hash(made.ptr, made.len);
    const now = performance.now();
    const spans = { ...made.spans, hash: now - hashing };
    const base = {
      leaf: leafOf(this.#hash, lease.lease, digest, made.len),
      lease: lease.lease,
      task: lease.task,
      digest,
      len: made.len,
      ms: now - start,
      backend: made.backend,
    };
    this.#feed.release(entry);
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
    this.progress.finished(result);
  }

  #fail(entry: Entry, error: unknown): void {
    this.#active -= 1;
    this.#feed.release(entry);
    this.queue.forget(entry.lease.lease);
    const known = error instanceof WorkError ? error : new WorkError("internal", String(error));
    if (this.tools.stopping.aborted) return;
    this.wire.failed(entry.lease.lease, known.code, known.message);
    this.progress.failed(entry.lease, known);
  }
}
