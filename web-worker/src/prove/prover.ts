/**
 * Proofs on this device: a proof's sums are cut into slices of the key, and instances of the module, each in a worker
 * or thread of its own, take slice after slice. The key stays where the caller has it; an instance holds one slice at a
 * time and keeps nothing but the circuit, so that ending it costs nothing but what it was doing.
 */
import { type Host, Instance } from "./instance.ts";
import { numberAt, PART_BYTES, PROOF_BYTES, ProveError } from "./module.ts";
import type { Job } from "./serve.ts";
import { BEFORE, QUOTIENT_COST, type Slice, SOLVE_COST, slicesOf } from "./plan.ts";
import { type Circuit, type Context, ELEMENT_BYTES, inputBytes, witnessOf } from "./signals.ts";
import { type Bytes, SECTION, sliceOf, Zkey } from "./zkey.ts";

/** At most: more would share so little that slices get short. */
export const INSTANCES_MAX = 16;

/** part: 0 … 1, never falling. phase: words for people. */
export type Progress = { part: number; phase: string };
export type OnProgress = (progress: Progress) => void;

export type Files = {
  zkey: Bytes;
  /** The circuit as .r1cs, or the plan that an earlier `Prover` made of it, which loads at once. */
  r1cs: Bytes;
};

/** As snarkjs writes it. */
export type ProofJson = {
  pi_a: string[];
  pi_b: string[][];
  pi_c: string[];
  protocol: "groth16";
  curve: "bn128";
};

export type Proved = { proof: ProofJson; publics: string[] };

type Call = { signal?: AbortSignal; onProgress?: OnProgress };

/** Tells of progress that never falls. */
class Meter {
  #done = 0;
  #told = 0;

  constructor(
    readonly total: number,
    readonly tell: OnProgress | undefined,
  ) {}

  say(phase: string, cost = 0): void {
    this.#done += cost;
    this.#told = Math.max(this.#told, Math.min(1, this.#done / this.total));
    this.tell?.({ part: this.#told, phase });
  }
}

export class Prover {
  readonly #instances: Instance[];
  /** The proof before this one: they are made one after another. */
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(
    readonly zkey: Zkey,
    instances: Instance[],
    /** What the circuit's .r1cs became; give it to `open` in its place, and it loads at once. */
    readonly plan: Uint8Array<ArrayBuffer>,
  ) {
    this.#instances = instances;
  }

  /** Read key and circuit. ProveError says in words for people what is wrong with them. */
  static async open(
    files: Files,
    options: { host: Host; instances: number; onProgress?: OnProgress; signal?: AbortSignal },
  ): Promise<Prover> {
    const { host, onProgress, signal } = options;
    const count = Math.max(1, Math.min(INSTANCES_MAX, Math.floor(options.instances)));
    const instances = Array.from({ length: count }, () => new Instance(host));
    const [first] = instances as [Instance];
    const read = async (): Promise<Prover> => {
      onProgress?.({ part: 0, phase: "reading the key" });
      const zkey = await Zkey.open(files.zkey);
      onProgress?.({ part: 0.1, phase: "reading the circuit" });
      const size = files.r1cs instanceof Uint8Array ? files.r1cs.length : files.r1cs.size;
      const circuit = await sliceOf(files.r1cs, 0, size);
      const wasPlan = new TextDecoder().decode(circuit.subarray(0, 4)) !== "r1cs";
      signal?.throwIfAborted();
      const plan = await first.do({ t: "circuit", file: circuit });
      if (wasPlan) first.fresh = false;
      // To make a plan takes much more memory than to use one, and linear memory never shrinks.
      else first.end(new ProveError("the circuit is read"));
      onProgress?.({ part: 1, phase: "ready" });
      return new Prover(zkey, instances, plan);
    };
    try {
      return await endedBy(signal, instances, read);
    } catch (error) {
      first.end(error);
      throw error;
    }
  }

  /** Bytes of the linear memory of all instances. */
  get memoryBytes(): number {
    return this.#instances.reduce((sum, instance) => sum + instance.memoryBytes, 0);
  }

  /**
   * A proof that C = A·Bᵀ, for the context. A: rows×k int8; B: cols×k int8; C: rows×cols int32, little-endian.
   *
   * RangeError where sizes or names do not fit, ProveError where no proof can be made. After `signal` aborts nothing is
   * computed any more; the next proof starts anew.
   */
  async prove(
    circuit: Circuit,
    context: Context,
    a: Uint8Array,
    b: Uint8Array,
    c: Uint8Array,
    call: Call = {},
  ): Promise<Proved> {
    const inputs = inputBytes(await witnessOf(circuit, context, a, b, c));
    const turn = this.#last.then(() => {
      if (this.#closed) throw new ProveError("the prover was closed");
      return endedBy(call.signal, this.#instances, () => this.#prove(inputs, call));
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** End all instances; a proof in the making is refused. */
  close(): void {
    this.#closed = true;
    for (const instance of this.#instances) instance.end(new ProveError("the prover was closed"));
  }

  async #prove(inputs: Uint8Array<ArrayBuffer>, { signal, onProgress }: Call): Promise<Proved> {
    const { zkey } = this;
    /** An instance that was ended while its job was read must not begin it after all. */
    const begin = (instance: Instance, job: Job): Promise<Uint8Array<ArrayBuffer>> => {
      signal?.throwIfAborted();
      if (this.#closed) throw new ProveError("the prover was closed");
      return instance.do(job);
    };
    const [first] = this.#instances as [Instance];
    const cut = (section: number): Slice[] => slicesOf(section, zkey.points(section).count, this.#instances.length);
    const slices = BEFORE.flatMap(cut);
    const later = cut(SECTION.h);
    const costs = { solve: SOLVE_COST * zkey.wires, quotient: QUOTIENT_COST * zkey.domain };
    const summed = [...slices, ...later].reduce((sum, slice) => sum + slice.cost, 0);
    const meter = new Meter((costs.solve + costs.quotient + summed) / 0.99, onProgress);

    meter.say("solving the circuit");
    if (first.fresh) await begin(first, { t: "circuit", file: this.plan.slice() });
    first.fresh = false;
    const values = await begin(first, { t: "solve", inputs });
    if (values.length !== ELEMENT_BYTES * zkey.wires) {
      throw new ProveError("the proving key is another circuit's: it has another number of wires");
    }
    meter.say("summing up", costs.solve);

    const parts: Uint8Array[] = [];
    const sum = async (instance: Instance, slice: Slice, scalars: Uint8Array, from: number): Promise<void> => {
      const { section, first: at, count, cost } = slice;
      const points = await zkey.slice(section, at, count);
      const [start, end] = [ELEMENT_BYTES * (from + at), ELEMENT_BYTES * (from + at + count)];
      const own = new Uint8Array(scalars.subarray(start, end));
      parts.push(await begin(instance, { t: "sum", section, first: at, points, scalars: own }));
      meter.say("summing up", cost);
    };

    type Step = (instance: Instance) => Promise<void>;
    const steps: Step[] = slices.map((slice) => {
      // Entry i of section C belongs to wire publics+1+i.
      const from = slice.section === SECTION.c ? zkey.publics + 1 : 0;
      return (instance) => sum(instance, slice, values, from);
    });
    const quotient = async (instance: Instance): Promise<void> => {
      const coefficients = await zkey.section(SECTION.coefficients);
      const [head, domain] = [zkey.head.slice(), zkey.domain];
      const rest = await begin(instance, { t: "quotient", head, coefficients, values: values.slice(), domain });
      meter.say("summing up", costs.quotient);
      steps.push(...later.map((slice): Step => (each) => sum(each, slice, rest, 0)));
    };
    await this.#share(steps, quotient);

    meter.say("closing the proof");
    const made = await begin(first, {
      t: "finish",
      head: zkey.head.slice(),
      values: values.slice(0, ELEMENT_BYTES * (zkey.publics + 1)),
      parts: joined(parts),
      publics: zkey.publics,
      key: await zkey.verificationKey(),
    });
    onProgress?.({ part: 1, phase: "proved" });
    return shown(made);
  }

  /** Let all instances take step after step; `leading` is the first of them, and adds steps when it is done. */
  async #share(
    steps: ((instance: Instance) => Promise<void>)[],
    leading: (instance: Instance) => Promise<void>,
  ): Promise<void> {
    let failed = false;
    let led: Promise<void> | null = null;
    const work = async (instance: Instance): Promise<void> => {
      try {
        if (led === null) await (led = leading(instance));
        while (!failed) {
          const step = steps.shift();
          if (step !== undefined) {
            await step(instance);
          } else {
            await led;
            if (steps.length === 0) return;
          }
        }
      } catch (error) {
        failed = true;
        throw error;
      }
    };
    // All of them are waited for, so that the next proof finds them idle.
    const ends = await Promise.allSettled(this.#instances.map(work));
    const wrong = ends.find((end) => end.status === "rejected");
    if (wrong !== undefined) throw wrong.reason;
  }
}

/** What `work` gives, unless `signal` aborts first: then the instances are ended at once. */
async function endedBy<T>(
  signal: AbortSignal | undefined,
  instances: readonly Instance[],
  work: () => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const stop = (): void => instances.forEach((instance) => instance.end(signal?.reason));
  signal?.addEventListener("abort", stop, { once: true });
  try {
    const made = await work();
    signal?.throwIfAborted();
    return made;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(PART_BYTES * parts.length);
  parts.forEach((part, at) => bytes.set(part, PART_BYTES * at));
  return bytes;
}

function shown(made: Uint8Array): Proved {
  const texts = Array.from({ length: made.length / 32 }, (_, at) => numberAt(made, 32 * at).toString());
  const publics = texts.splice(PROOF_BYTES / 32);
  const at = (from: number, to: number): string[] => texts.slice(from, to);
  return {
    proof: {
      pi_a: [...at(0, 2), "1"],
      pi_b: [at(2, 4), at(4, 6), ["1", "0"]],
      pi_c: [...at(6, 8), "1"],
      protocol: "groth16",
      curve: "bn128",
    },
    publics,
  };
}
