/** The caller's side of an instance: it is started when it is first wanted, and after it was lost or ended. */
import { ProveError } from "./module.ts";
import { type Answer, buffersOf, type Job } from "./serve.ts";

/** A worker or thread that answers each job once. */
export type Link = {
  send(job: Job, transfer: ArrayBuffer[]): void;
  /** Ends it at once, whatever it is doing. */
  end(): void;
};

/** Where instances run: Web Workers (page.ts) or threads (threads.ts). */
export type Host = {
  /** The bytes of prover.wasm. */
  module: Uint8Array;
  start(answered: (answer: Answer) => void, failed: (message: string) => void): Link;
};

type Waiting = { resolve(bytes: Uint8Array<ArrayBuffer>): void; reject(error: unknown): void };

export class Instance {
  /** Bytes of linear memory, as the last answer said. */
  memoryBytes = 0;
  /** Told that the circuit is to be loaded again, as nothing of it is left. */
  fresh = true;
  #link: Link | null = null;
  #waiting: Waiting | null = null;

  constructor(readonly host: Host) {}

  /** Do a job; one at a time. Its buffers are gone afterwards. */
  async do(job: Job): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#link === null) {
      const link = this.host.start(
        (answer) => this.#link === link && this.#answered(answer),
        (message) => this.#link === link && this.end(new ProveError(`a worker of the prover failed: ${message}`, true)),
      );
      this.#link = link;
      // A copy, as it travels; a Buffer's own `slice` makes none.
      await this.#send({ t: "start", module: new Uint8Array(this.host.module) });
    }
    return this.#send(job);
  }

  /** End it at once; who waits for it gets `reason`. */
  end(reason: unknown): void {
    const waiting = this.#waiting;
    this.#link?.end();
    this.#link = null;
    this.#waiting = null;
    this.memoryBytes = 0;
    this.fresh = true;
    waiting?.reject(reason);
  }

  #send(job: Job): Promise<Uint8Array<ArrayBuffer>> {
    return new Promise((resolve, reject) => {
      const link = this.#link;
      if (link === null || this.#waiting !== null) throw new Error("an instance does one job at a time");
      this.#waiting = { resolve, reject };
      link.send(job, buffersOf(job));
    });
  }

  #answered(answer: Answer): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (answer.t === "made") {
      this.memoryBytes = answer.memory;
      waiting?.resolve(answer.bytes);
      return;
    }
    const error = new ProveError(answer.message, answer.lost);
    if (answer.lost) this.end(error);
    waiting?.reject(error);
  }
}
