/** What an instance does for the prover: one job at a time, each answered, in a worker or thread of its own. */
import { ProveError, ProverModule } from "./module.ts";

/** Buffers travel, they are not copied: who sends one has it no longer. */
export type Job =
  | { t: "start"; module: Uint8Array<ArrayBuffer> }
  | { t: "circuit"; file: Uint8Array<ArrayBuffer> }
  | { t: "solve"; inputs: Uint8Array<ArrayBuffer> }
  | {
      t: "quotient";
      head: Uint8Array<ArrayBuffer>;
      coefficients: Uint8Array<ArrayBuffer>;
      values: Uint8Array<ArrayBuffer>;
      domain: number;
    }
  | {
      t: "sum";
      section: number;
      first: number;
      points: Uint8Array<ArrayBuffer>;
      scalars: Uint8Array<ArrayBuffer>;
    }
  | {
      t: "finish";
      head: Uint8Array<ArrayBuffer>;
      values: Uint8Array<ArrayBuffer>;
      parts: Uint8Array<ArrayBuffer>;
      publics: number;
      key: Uint8Array<ArrayBuffer>;
    };

/** `memory`: bytes of the instance's linear memory. `lost`: it must be replaced. */
export type Answer =
  | { t: "made"; bytes: Uint8Array<ArrayBuffer>; memory: number }
  | { t: "failed"; message: string; lost: boolean };

/** The buffers in a job or an answer, which are to travel. */
export const buffersOf = (message: Job | Answer): ArrayBuffer[] =>
  Object.values(message).flatMap((value) => (value instanceof Uint8Array ? [value.buffer as ArrayBuffer] : []));

export class Serving {
  #module: ProverModule | null = null;

  async answer(job: Job): Promise<Answer> {
    try {
      const bytes = await this.#do(job);
      return { t: "made", bytes, memory: this.#module?.memoryBytes ?? 0 };
    } catch (error) {
      if (error instanceof ProveError) return { t: "failed", message: error.message, lost: error.instanceLost };
      return { t: "failed", message: `the prover failed: ${String(error)}`, lost: true };
    }
  }

  async #do(job: Job): Promise<Uint8Array<ArrayBuffer>> {
    if (job.t === "start") {
      this.#module = await ProverModule.load(job.module);
      return new Uint8Array(0);
    }
    const module = this.#module;
    if (module === null) throw new ProveError("the prover's module was not loaded", true);
    if (job.t === "circuit") return module.openCircuit(job.file);
    if (job.t === "solve") return module.solve(job.inputs);
    if (job.t === "quotient") return module.quotient(job.head, job.coefficients, job.values, job.domain);
    if (job.t === "sum") return module.sum(job.section, job.first, job.points, job.scalars);
    const made = module.finish(job.head, job.values, job.parts, job.publics);
    // A damaged key, or a bit that fell over in memory, shows here and not at who receives the proof.
    if (!module.verifies(job.key, made)) {
      throw new ProveError("the proof that was made does not hold: the proving key is damaged or not this circuit's");
    }
    return made;
  }
}
