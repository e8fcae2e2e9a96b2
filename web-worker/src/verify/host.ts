/** What checking takes from where it runs. */
import type { Hash } from "../core/merkle.ts";
import type { Engine } from "../engine/engine.ts";
import type { ProverModule } from "../prove/module.ts";

export type Host = {
  engine: Engine;
  subtle: SubtleCrypto;
  /** Loaded when the first proof is met. */
  proofs(): Promise<ProverModule>;
};

export const hashOf =
  ({ engine }: Host): Hash =>
  (bytes) =>
    engine.hashBytes(bytes);
