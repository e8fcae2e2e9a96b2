/**
 * Proofs that the mesh asks for (docs/protocol.md §8), from the `prove` frame to the `ack`. They outlive connections,
 * as the work for them is long: what was made is kept until it is acknowledged, and sent again when it is asked again.
 *
 * The code that proves is loaded when the first proof is asked for (proving.ts).
 */
import type { Host as ProveHost } from "../prove/instance.ts";
import type { KeyStore } from "../prove/keys.ts";
import { type Asked, askedOf } from "./asked.ts";
import type { Header } from "./frame.ts";
import { WorkError } from "./types.ts";

/** What a host gives for proofs: where instances run, where keys are kept, and how many instances there may be. */
export type Proves = { host: () => Promise<ProveHost>; store: KeyStore; instances: number };

/** Makes the proofs that one frame asks for. `ms`: the time that proving took, without what was fetched. */
export type Maker = { prove(asked: Asked): Promise<{ bytes: Uint8Array<ArrayBuffer>; ms: number }>; close(): void };

/** What is done now. part: 0 … 1. */
export type Shown = { text: string; part: number };

export type ProofWire = { open(): boolean; send(header: Header, segments?: readonly Uint8Array[]): void };

export type ProofProgress = {
  shown(proof: Shown | null): void;
  /** count: tiles, each with a proof of its own. */
  made(count: number): void;
  failed(asked: Asked, error: WorkError): void;
};

/** Until they are acknowledged; what is dropped is made again when it is asked for again. */
const KEPT_MAX = 64;
/** As many as there may be leases. */
const WAITING_MAX = 4096;
const SESSION_MS = 60_000;
const MESSAGE_CHARS = 400;

type Made = { bytes: Uint8Array<ArrayBuffer>; ms: number };

export class ProofDesk {
  /** In the order in which they were asked for. */
  readonly #waiting = new Map<string, { asked: Asked; due: number }>();
  readonly #made = new Map<string, Made>();
  /** Leases to give back in the next session: during a handshake the frame would be malformed. */
  #returns: Header[] = [];
  #inWork: string | null = null;
  #maker: Promise<Maker> | null = null;
  #joined: (() => void)[] = [];

  /** open: null where nothing can be proved. */
  constructor(
    readonly open: (() => Promise<Maker>) | null,
    readonly wire: ProofWire,
    readonly progress: ProofProgress,
    readonly stopping: AbortSignal,
  ) {
    stopping.addEventListener("abort", () => this.#end(), { once: true });
  }

  /** A `prove` frame. FrameError where it is none. */
  asked(header: Header): void {
    const asked = askedOf(header);
    const { lease } = asked;
    const made = this.#made.get(lease);
    if (made !== undefined) return this.#send(lease, made);
    if (lease === this.#inWork) return;
    if (this.open === null) return this.#giveBack(asked, new WorkError("unsupported", "this device proves nothing"));
    if (this.#waiting.size >= WAITING_MAX && !this.#waiting.has(lease)) {
      return this.#giveBack(asked, new WorkError("internal", `${WAITING_MAX} proofs are waiting here already`));
    }
    this.#waiting.set(lease, { asked, due: performance.now() + asked.deadlineMs });
    void this.#work();
  }

  /** What was made for this lease is with the mesh. */
  acked(lease: string): void {
    this.#made.delete(lease);
  }

  /** Leases that nobody waits for: what has begun is finished all the same. */
  cancel(leases: readonly string[]): void {
    for (const lease of leases) this.#waiting.delete(lease);
  }

  /** After a new `tier`. The mesh asks again for what it still wants. */
  resume(): void {
    const returns = this.#returns;
    this.#returns = [];
    for (const header of returns) this.wire.send(header);
    for (const tell of this.#joined.splice(0)) tell();
  }

  /** Waits until there is a session to fetch in. WorkError where none comes. */
  async session(): Promise<void> {
    if (this.wire.open() || this.stopping.aborted) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve, reject) => {
      this.#joined.push(resolve);
      timer = setTimeout(() => reject(new WorkError("fetch", "no session to fetch in")), SESSION_MS);
    }).finally(() => clearTimeout(timer));
  }

  /** One at a time. */
  async #work(): Promise<void> {
    if (this.#inWork !== null) return;
    for (const [lease, { asked, due }] of this.#waiting) {
      if (this.stopping.aborted) break;
      this.#waiting.delete(lease);
      // Its lease is somebody else's by now.
      if (performance.now() > due) continue;
      this.#inWork = lease;
      const outcome = await this.#prove(asked);
      this.#inWork = null;
      if (this.stopping.aborted) break;
      if (outcome instanceof WorkError) this.#giveBack(asked, outcome);
      else this.#finish(asked, outcome);
    }
    this.progress.shown(null);
  }

  async #prove(asked: Asked): Promise<Made | WorkError> {
    try {
      const maker = await this.#opened();
      return await maker.prove(asked);
    } catch (error) {
      return error instanceof WorkError ? error : new WorkError("internal", String(error));
    }
  }

  async #opened(): Promise<Maker> {
    this.progress.shown({ text: "loading the prover", part: 0 });
    this.#maker ??= (this.open as () => Promise<Maker>)();
    try {
      return await this.#maker;
    } catch (error) {
      this.#maker = null;
      const message = error instanceof Error ? error.message : String(error);
      throw new WorkError("fetch", `the prover can't be loaded: ${message}`);
    }
  }

  #finish(asked: Asked, made: Made): void {
    this.progress.made(asked.tiles.length);
    this.#made.set(asked.lease, made);
    const [oldest] = this.#made.keys();
    if (this.#made.size > KEPT_MAX && oldest !== undefined) this.#made.delete(oldest);
    if (this.wire.open()) this.#send(asked.lease, made);
  }

  #send(lease: string, { bytes, ms }: Made): void {
    this.wire.send({ t: "proof", lease, s: 0, ms, backend: "wasm" }, [bytes]);
  }

  #giveBack(asked: Asked, error: WorkError): void {
    this.progress.failed(asked, error);
    const message = error.message.slice(0, MESSAGE_CHARS);
    const header = { t: "failed", lease: asked.lease, code: error.code, message };
    if (this.wire.open()) this.wire.send(header);
    else this.#returns = [...this.#returns, header].slice(-WAITING_MAX);
  }

  #end(): void {
    this.#waiting.clear();
    for (const tell of this.#joined.splice(0)) tell();
    void this.#maker?.then(
      (maker) => maker.close(),
      () => undefined,
    );
  }
}
