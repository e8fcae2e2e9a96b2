/**
 * The prover's module (libs/shardy_common/proofs/prover.wasm, proofs-rs/src/abi.rs) as a typed object. One instance
 * computes on one core; instances share nothing.
 *
 * Scalars are 32 bytes, the lowest first; points are as they stand in a .zkey.
 */
import { elementBytes, type Poseidon } from "./signals.ts";

export const PROVER_ABI = 2;
/** Bytes of a part: what `sum` makes of one slice of a key's points. */
export const PART_BYTES = 140;
export const PROOF_BYTES = 256;
const RANDOM_BYTES = 128;
const FACTOR_BYTES = 16;
/** What a .wtns file holds before its values. */
const WTNS_HEAD_BYTES = 76;

type Exports = {
  memory: WebAssembly.Memory;
  abi_version(): number;
  alloc_bytes(len: number): number;
  free_bytes(ptr: number, len: number): void;
  add_key(ptr: number, len: number): number;
  drop_key(handle: number): number;
  verify(handle: number, proof: number, publics: number, count: number): number;
  verify_batch(
    handle: number,
    batch: number,
    proofs: number,
    publics: number,
    count: number,
    factors: number,
    out: number,
  ): number;
  poseidon_hash(inputs: number, count: number, out: number): number;
  solver_open(file: number, len: number): number;
  solver_wires(handle: number): number;
  solver_inputs(handle: number): number;
  solver_save(handle: number, out: number, len: number): number;
  solver_drop(handle: number): number;
  solve(handle: number, inputs: number, count: number, out: number, outLen: number): number;
  prove_quotient(
    head: number,
    headLen: number,
    coefs: number,
    coefsLen: number,
    values: number,
    valuesLen: number,
    out: number,
    outLen: number,
  ): number;
  prove_sum(
    section: number,
    first: number,
    points: number,
    pointsLen: number,
    scalars: number,
    scalarsLen: number,
    out: number,
  ): number;
  prove_finish(
    head: number,
    headLen: number,
    values: number,
    valuesLen: number,
    parts: number,
    partsLen: number,
    random: number,
    out: number,
    outLen: number,
  ): number;
};

/** What went wrong, in words for people. `instanceLost`: the instance is not to be used again. */
export class ProveError extends Error {
  constructor(
    message: string,
    readonly instanceLost = false,
  ) {
    super(message);
  }
}

const MEANING: Record<number, string> = {
  [-1]: "a file is cut short or has parts of the wrong length",
  [-2]: "a file is of another kind, version or field",
  [-3]: "a number or a point in a file or among the inputs is out of range: it is damaged",
  [-4]: "the circuit is too large for this prover",
  [-5]: "key, circuit and inputs do not belong together",
  [-6]: "the circuit was not loaded",
  [-7]: "this circuit's wires do not follow from its inputs",
  [-8]: "the inputs break the circuit's equations: C is not A·Bᵀ",
};

export class ProverModule {
  readonly #x: Exports;
  #solver: number | null = null;

  private constructor(exports: Exports) {
    this.#x = exports;
    const version = exports.abi_version();
    if (version !== PROVER_ABI) throw new ProveError(`prover ABI ${version}, this program speaks ${PROVER_ABI}`, true);
  }

  static async load(module: BufferSource): Promise<ProverModule> {
    const { instance } = await WebAssembly.instantiate(module, {});
    return new ProverModule(instance.exports as unknown as Exports);
  }

  /** Bytes of the whole linear memory, which never shrinks. */
  get memoryBytes(): number {
    return this.#x.memory.buffer.byteLength;
  }

  /** Load a circuit: an .r1cs, which takes seconds, or a plan. It replaces the one before; the plan, for next time. */
  openCircuit(file: Uint8Array): Uint8Array<ArrayBuffer> {
    if (this.#solver !== null) this.#x.solver_drop(this.#solver);
    this.#solver = null;
    this.#solver = this.#with([file], (at) => this.#checked("the circuit", this.#x.solver_open(at, file.length)));
    const handle = this.#solver;
    const size = this.#checked("the circuit", this.#x.solver_save(handle, 0, 0));
    return this.#made(size, (out) => this.#checked("the circuit", this.#x.solver_save(handle, out, size)));
  }

  /** All wires' values out of the circuit's inputs. */
  solve(inputs: Uint8Array): Uint8Array<ArrayBuffer> {
    const handle = this.#solver ?? -1;
    const wires = this.#checked("the circuit", this.#x.solver_wires(handle));
    const size = WTNS_HEAD_BYTES + 32 * wires;
    const file = this.#with([inputs], (at) =>
      this.#made(size, (out) => {
        this.#checked("the witness", this.#x.solve(handle, at, inputs.length / 32, out, size));
      }),
    );
    return file.slice(WTNS_HEAD_BYTES);
  }

  /** The quotient's values, `domain` of them. head, coefficients: sections 2 and 4 of a .zkey. */
  quotient(head: Uint8Array, coefficients: Uint8Array, values: Uint8Array, domain: number): Uint8Array<ArrayBuffer> {
    return this.#with([head, coefficients, values], (...at) =>
      this.#made(32 * domain, (out) => {
        const sizes = [head.length, coefficients.length, values.length] as const;
        const blocks = [at[0], sizes[0], at[1], sizes[1], at[2], sizes[2]] as const;
        this.#checked("the quotient", this.#x.prove_quotient(...blocks, out, 32 * domain));
      }),
    );
  }

  /** Σ scalar·point over a slice of a section whose first point is number `first`. */
  sum(section: number, first: number, points: Uint8Array, scalars: Uint8Array): Uint8Array<ArrayBuffer> {
    return this.#with([points, scalars], (at, by) =>
      this.#made(PART_BYTES, (out) => {
        const result = this.#x.prove_sum(section, first, at, points.length, by, scalars.length, out);
        this.#checked(`section ${section} of the key`, result);
      }),
    );
  }

  /** Proof and public signals in wire form, out of all parts; `values` as far as the public signals go, or all. */
  finish(head: Uint8Array, values: Uint8Array, parts: Uint8Array, publics: number): Uint8Array<ArrayBuffer> {
    const random = crypto.getRandomValues(new Uint8Array(RANDOM_BYTES));
    const size = PROOF_BYTES + 32 * publics;
    return this.#with([head, values, parts, random], (...at) =>
      this.#made(size, (out) => {
        const sizes = [head.length, values.length, parts.length] as const;
        const blocks = [at[0], sizes[0], at[1], sizes[1], at[2], sizes[2]] as const;
        this.#checked("the proof", this.#x.prove_finish(...blocks, at[3], out, size));
      }),
    );
  }

  /** Whether a proof with its public signals, in wire form as `finish` makes them, holds under a verification key. */
  verifies(key: Uint8Array, made: Uint8Array): boolean {
    const handle = this.addKey(key);
    try {
      const count = (made.length - PROOF_BYTES) / 32;
      const result = this.#with([made], (at) => this.#x.verify(handle, at, at + PROOF_BYTES, count));
      return result === 1;
    } finally {
      this.dropKey(handle);
    }
  }

  /** Prepare a verification key in wire form; its handle. ProveError for points off their curves or groups. */
  addKey(key: Uint8Array): number {
    return this.#with([key], (at) => this.#checked("the key", this.#x.add_key(at, key.length)));
  }

  /** A module holds 256 keys at most. */
  dropKey(handle: number): void {
    this.#checked("the key", this.#x.drop_key(handle));
  }

  /** Which of these proofs hold, by one random combination: a wrong one passes with a chance of 2⁻¹²⁸ at most. */
  hold(handle: number, proofs: Uint8Array, publics: Uint8Array, count: number): boolean[] {
    const batch = proofs.length / PROOF_BYTES;
    const factors = crypto.getRandomValues(new Uint8Array(FACTOR_BYTES * batch));
    const found = this.#with([proofs, publics, factors], (at, signals, by) =>
      this.#made(batch, (out) => {
        this.#checked("the proofs", this.#x.verify_batch(handle, batch, at, signals, count, by, out));
      }),
    );
    return Array.from(found, (byte) => byte === 1);
  }

  readonly poseidon: Poseidon = (inputs) => {
    const bytes = elementBytes(inputs);
    turn(bytes);
    const out = this.#with([bytes], (at) =>
      this.#made(32, (to) => this.#checked("Poseidon", this.#x.poseidon_hash(at, inputs.length, to))),
    );
    return numberAt(out, 0);
  };

  #alloc(size: number): number {
    // Nobody is given a block of no bytes; what is empty has no need of one.
    if (size === 0) return 0;
    const at = this.#x.alloc_bytes(size) >>> 0;
    if (at === 0) throw new ProveError("this device has not enough memory left for the proof", true);
    return at;
  }

  /** Call `work` with the places of copies of `blocks`. */
  #with<T, B extends readonly Uint8Array[]>(
    blocks: readonly [...B],
    work: (...at: { [K in keyof B]: number }) => T,
  ): T {
    const places: number[] = [];
    try {
      for (const block of blocks) {
        const at = this.#alloc(block.length);
        places.push(at);
        new Uint8Array(this.#x.memory.buffer, at, block.length).set(block);
      }
      return this.#run(() => work(...(places as { [K in keyof B]: number })));
    } finally {
      places.forEach((at, index) => this.#x.free_bytes(at, blocks[index]?.length ?? 0));
    }
  }

  /** What `work` writes into a block of this size, copied out. */
  #made(size: number, work: (out: number) => void): Uint8Array<ArrayBuffer> {
    const out = this.#alloc(size);
    try {
      this.#run(() => work(out));
      return new Uint8Array(this.#x.memory.buffer, out, size).slice();
    } finally {
      this.#x.free_bytes(out, size);
    }
  }

  #run<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      // A trap means that memory ran out in the middle of something.
      if (error instanceof WebAssembly.RuntimeError) {
        throw new ProveError("this device has not enough memory left for the proof", true);
      }
      throw error;
    }
  }

  #checked(what: string, result: number): number {
    if (result < 0) throw new ProveError(`${what}: ${MEANING[result] ?? `error ${result}`}`);
    return result;
  }
}

/** Turn each number of 32 bytes around, in place. */
function turn(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 32) bytes.subarray(at, at + 32).reverse();
}

/** The number whose 32 bytes, the highest first, begin at `at`. */
export function numberAt(bytes: Uint8Array, at: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, 32);
  let value = 0n;
  for (let word = 0; word < 32; word += 8) value = (value << 64n) | view.getBigUint64(word);
  return value;
}
