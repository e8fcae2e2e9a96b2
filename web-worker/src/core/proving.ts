/**
 * Makes the proofs of a `prove` frame: key and circuit, kept on this device; each tile, computed again with the engine;
 * and the prover, kept for the next frame. This is where the prover's code comes in: load it when it is needed.
 */
import type { Host as ProveHost } from "../prove/instance.ts";
import { hashWith, Keys, type KeyStore } from "../prove/keys.ts";
import { PROOF_BYTES, ProveError } from "../prove/module.ts";
import { instancesFor } from "../prove/needs.ts";
import { type ProofJson, Prover } from "../prove/prover.ts";
import { type Context, elementBytes } from "../prove/signals.ts";
import { tileField } from "../prove/tiles.ts";
import { type Asked, type File, operandsOf } from "./asked.ts";
import type { Tools } from "./kinds.ts";
import type { BlobSource } from "./operands.ts";
import type { Maker, Shown } from "./proofs.ts";
import { nextTurn, sleep } from "./timing.ts";
import { operandKey, WorkError } from "./types.ts";

export type Needs = {
  tools: Tools;
  source: BlobSource;
  engineBytes: BufferSource;
  /** The public key that joined. */
  worker: Uint8Array;
  /** What the prover may take. */
  memoryBytes: number;
  host: ProveHost;
  store: KeyStore;
  instances: number;
  /** Waits for a session to fetch in. */
  session: () => Promise<void>;
  shown: (proof: Shown) => void;
};

const FETCH_TRIES = 3;
/** A transfer in which nothing comes for this long is given up. */
const STALL_MS = 60_000;
/** Operations at a stretch: some ten milliseconds. */
const STRETCH_OPS = 2e8;

/** A product with its context. */
type Tile = { context: Context; a: Uint8Array; b: Uint8Array; c: Uint8Array };

export class Proving implements Maker {
  readonly #keys: Keys;
  #held: { named: string; prover: Prover } | null = null;

  constructor(readonly needs: Needs) {
    const { source, store, engineBytes } = needs;
    const fetchKey: typeof fetch = (input, init) =>
      source.fetch(input, { ...init, headers: { authorization: `Bearer ${source.token()}` } });
    this.#keys = new Keys({ store, fetch: fetchKey, hash: hashWith(engineBytes) });
  }

  get #stopping(): AbortSignal {
    return this.needs.tools.stopping;
  }

  async prove(asked: Asked): ReturnType<Maker["prove"]> {
    const prover = await this.#prover(asked);
    const { circuit, tiles } = asked;
    const bytes = new Uint8Array(PROOF_BYTES * tiles.length);
    let ms = 0;
    for (const [at, index] of tiles.entries()) {
      const tell = (phase: string, part: number): void =>
        this.needs.shown({
          text: `proving tile ${at + 1} of ${tiles.length}: ${phase}`,
          part: (at + part) / tiles.length,
        });
      tell("computing it again", 0);
      const { context, a, b, c } = await this.#tile(asked, index);
      const start = performance.now();
      try {
        const { proof } = await prover.prove(circuit, context, a, b, c, {
          signal: this.#stopping,
          onProgress: ({ part, phase }) => tell(phase, part),
        });
        bytes.set(wireOf(proof), PROOF_BYTES * at);
      } catch (error) {
        // Whatever it was may be wrong with this prover; the next proof gets a new one.
        this.close();
        throw known(error, "internal", `tile ${index} can't be proved`);
      }
      ms += performance.now() - start;
    }
    return { bytes, ms };
  }

  close(): void {
    this.#held?.prover.close();
    this.#held = null;
  }

  async #prover(asked: Asked): Promise<Prover> {
    const { host, memoryBytes, shown } = this.needs;
    const named = `${asked.zkey.digest} ${asked.r1cs.digest}`;
    if (this.#held?.named === named) return this.#held.prover;
    this.close();
    const total = asked.zkey.bytes + asked.r1cs.bytes;
    const getting = (from: number, bytes: number) => (part: number) =>
      shown({ text: "getting the key to prove with", part: (from + part * bytes) / total });
    const zkey = await this.#file(asked.zkey, getting(0, asked.zkey.bytes));
    const r1cs = await this.#file(asked.r1cs, getting(asked.zkey.bytes, asked.r1cs.bytes));
    // The mesh asks only where one fits; more do where somebody measured the circuit.
    const instances = Math.max(1, instancesFor(asked.circuit.name, memoryBytes, this.needs.instances));
    try {
      const prover = await Prover.open(
        { zkey, r1cs },
        { host, instances, signal: this.#stopping, onProgress: ({ part, phase }) => shown({ text: phase, part }) },
      );
      this.#held = { named, prover };
      return prover;
    } catch (error) {
      throw known(error, "internal", `the key of ${asked.version} does not serve`);
    }
  }

  /** What `work` fetches, in a session, which may be lost meanwhile. */
  async #fetched<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      await this.needs.session();
      try {
        return await work();
      } catch (error) {
        const final = error instanceof WorkError && error.code !== "fetch";
        if (final || this.#stopping.aborted || attempt >= FETCH_TRIES) throw error;
      }
      await sleep(250 * 2 ** attempt);
    }
  }

  /** A file of the mesh, unpacked, as it is kept here or fetched. */
  async #file({ digest, bytes, unpacked }: File, tell: (part: number) => void): Promise<Blob> {
    const url = `${this.needs.source.base}/v1/worker/blobs/${digest}`;
    const get = async (): Promise<Blob> => {
      const stalled = new AbortController();
      const stall = (): void => stalled.abort(new ProveError("nothing came for a minute"));
      let timer = setTimeout(stall, STALL_MS);
      const onProgress = ({ part }: { part: number }): void => {
        clearTimeout(timer);
        timer = setTimeout(stall, STALL_MS);
        tell(part);
      };
      try {
        const signal = AbortSignal.any([this.#stopping, stalled.signal]);
        return await this.#keys.get({ url, digest, bytes }, { signal, onProgress });
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      const file = await this.#fetched(get);
      if (file.size === unpacked) return file;
      throw new WorkError("fetch", `the key has ${file.size} bytes unpacked, and ${unpacked} were named`);
    } catch (error) {
      throw known(error, "fetch", "the key to prove with");
    }
  }

  /** The operands' slices, their product and what is stated of it. */
  async #tile(asked: Asked, index: number): Promise<Tile> {
    const { engine, store } = this.needs.tools;
    const tile = asked.grid.tile(index);
    const { rows, cols } = tile;
    const { k } = asked;
    const operands = operandsOf(asked, tile);
    const pinned: string[] = [];
    try {
      for (const operand of operands) {
        await this.#fetched(() => store.acquire(operand, this.#stopping));
        pinned.push(operandKey(operand));
      }
      const [a, b] = operands.map((operand) => store.get(operandKey(operand)).ptr) as [number, number];
      const size = 4 * rows * cols;
      const c = store.allocate(size);
      try {
        const step = Math.max(1, Math.floor(STRETCH_OPS / (2 * cols * k)));
        for (let row = 0; row < rows; row += step) {
          engine.matmul(a + row * k, b, c + 4 * row * cols, Math.min(step, rows - row), cols, k);
          await nextTurn();
          this.#stopping.throwIfAborted();
        }
        const copies = [engine.u8(a, rows * k), engine.u8(b, cols * k), engine.u8(c, size)].map((view) => view.slice());
        const [left, right, product] = copies as [Uint8Array, Uint8Array, Uint8Array];
        const context: Context = {
          task: asked.task,
          worker: this.needs.worker,
          nonce: asked.nonce,
          circuit: asked.circuit.name,
          vkVersion: asked.version,
          vkHash: asked.vk,
          rows,
          k,
          cols,
          seed: new Uint8Array(0),
          a: engine.hash(a, rows * k),
          b: engine.hash(b, cols * k),
          c: engine.hash(c, size),
          tile: asked.grid.count > 1 ? tileField(asked.root, index) : new Uint8Array(0),
        };
        return { context, a: left, b: right, c: product };
      } finally {
        engine.free(c, size);
      }
    } finally {
      store.unpin(pinned);
    }
  }
}

/** A.x ‖ A.y ‖ B.x.c0 ‖ B.x.c1 ‖ B.y.c0 ‖ B.y.c1 ‖ C.x ‖ C.y, 32 bytes each, big-endian. */
export function wireOf({ pi_a, pi_b, pi_c }: ProofJson): Uint8Array<ArrayBuffer> {
  const texts = [...pi_a.slice(0, 2), ...pi_b.slice(0, 2).flat(), ...pi_c.slice(0, 2)];
  const bytes = elementBytes(texts.map(BigInt));
  for (let at = 0; at < bytes.length; at += 32) bytes.subarray(at, at + 32).reverse();
  return bytes;
}

function known(error: unknown, code: "fetch" | "internal", what: string): WorkError {
  if (error instanceof WorkError) return error;
  const message = error instanceof Error ? error.message : String(error);
  // A lost instance ran out of memory: everything else that goes wrong in it has words of its own.
  const oom = error instanceof ProveError && error.instanceLost && /memory/.test(message);
  return new WorkError(oom ? "oom" : code, `${what}: ${message}`);
}
