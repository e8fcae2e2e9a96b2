/** What tests/prove and bench/proofs_chromium.py have the prover do: the same in Chromium, Node and Bun. */
import type { Host } from "../../src/prove/instance.ts";
import { type Files, type Progress, Prover } from "../../src/prove/prover.ts";
import { circuitNamed, type Context } from "../../src/prove/signals.ts";

/** A product and its context; bytes in hex. */
export type Case = { circuit: string; a: string; b: string; c: string } & {
  context: { [K in keyof Context]: Context[K] extends Uint8Array ? string : Context[K] };
};

export type Order = { what: keyof typeof WORK; instances: number; case: Case; at?: number[]; times?: number };

const bytes = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length: text.length / 2 }, (_, at) => parseInt(text.slice(2 * at, 2 * at + 2), 16));

const words = (error: unknown): string => (error instanceof Error ? `${error.name}: ${error.message}` : String(error));

type Call = { signal?: AbortSignal; onProgress?: (progress: Progress) => void };

export function proves(prover: Prover, asked: Case, call: Call = {}): ReturnType<Prover["prove"]> {
  const { circuit, context, a, b, c } = asked;
  const named = Object.entries(context).map(([name, value]) => {
    const isText = typeof value !== "string" || ["task", "circuit", "vkVersion"].includes(name);
    return [name, isText ? value : bytes(value)];
  });
  const full = Object.fromEntries(named) as Context;
  return prover.prove(circuitNamed(circuit), full, bytes(a), bytes(b), bytes(c), call);
}

/** Copies of the files' bytes, one of them changed. */
async function changed(blob: Blob, at: number): Promise<Blob> {
  const copy = new Uint8Array(await blob.arrayBuffer());
  copy[at] = (copy[at] as number) ^ 0x01;
  return new Blob([copy]);
}

async function withProver<T>(
  host: Host,
  files: Files,
  instances: number,
  work: (prover: Prover) => Promise<T>,
): Promise<T> {
  const prover = await Prover.open(files, { host, instances });
  try {
    return await work(prover);
  } finally {
    prover.close();
  }
}

const WORK = {
  /** Two proofs at once, of which the second waits; what was told; and a third by a prover opened from the plan. */
  async prove(host: Host, files: Files, order: Order): Promise<unknown> {
    const told: Progress[] = [];
    const opening: Progress[] = [];
    const onProgress = (progress: Progress): void => void opening.push(progress);
    const prover = await Prover.open(files, { host, instances: order.instances, onProgress });
    const first = proves(prover, order.case, { onProgress: (progress) => told.push(progress) });
    const proofs = await Promise.all([first, proves(prover, order.case)]);
    const { plan, memoryBytes } = prover;
    prover.close();
    const late = await proves(prover, order.case).catch(words);
    const again = await withProver(host, { ...files, r1cs: plan }, 1, (other) => proves(other, order.case));
    return { proofs: [...proofs, again], told, opening, memoryBytes, late };
  },

  /** Cancelled at each of the phases, and before the start; then a proof; the longest wait for the end. */
  async cancel(host: Host, files: Files, order: Order): Promise<unknown> {
    return withProver(host, files, order.instances, async (prover) => {
      const ends: { phase: string; said: string; ms: number }[] = [];
      const seen = new Set<string>();
      for (let found = true; found; ) {
        found = false;
        const stop = new AbortController();
        let stopped = 0;
        let phase = "";
        const onProgress = (progress: Progress): void => {
          if (found || seen.has(progress.phase) || progress.part === 1) return;
          found = true;
          seen.add((phase = progress.phase));
          // As if somebody clicked while the instances work.
          setTimeout(() => {
            stopped = performance.now();
            stop.abort(new Error("that is enough"));
          }, 0);
        };
        const said = await proves(prover, order.case, { signal: stop.signal, onProgress }).then(() => "proved", words);
        if (found) ends.push({ phase, said, ms: performance.now() - stopped });
      }
      const signal = AbortSignal.abort(new Error("too late"));
      const before = await proves(prover, order.case, { signal }).catch(words);
      return { ends, before, proof: await proves(prover, order.case) };
    });
  },

  /** With the byte at each of the places changed, in the key and then in the circuit: what is said. */
  async damage(host: Host, files: Files, order: Order): Promise<unknown> {
    const attempt = (changedFiles: Files): Promise<unknown> =>
      withProver(host, changedFiles, order.instances, (prover) => proves(prover, order.case)).catch(words);
    const [zkey, r1cs] = [files.zkey as Blob, files.r1cs as Blob];
    const said: unknown[] = [];
    for (const at of order.at ?? []) said.push(await attempt({ ...files, zkey: await changed(zkey, at) }));
    return {
      said,
      cut: await attempt({ ...files, zkey: zkey.slice(0, zkey.size - 1) }),
      nothing: await attempt({ ...files, zkey: new Blob([]) }),
      exchanged: await attempt({ zkey: r1cs, r1cs: zkey }),
      circuit: await attempt({ ...files, r1cs: await changed(r1cs, 0) }),
      whole: typeof (await attempt(files)),
    };
  },

  /** What is said of a product that is none; and a proof by the same prover afterwards. */
  async wrong(host: Host, files: Files, order: Order): Promise<unknown> {
    return withProver(host, files, order.instances, async (prover) => {
      const { case: right } = order;
      const c = `${right.c.startsWith("0") ? "1" : "0"}${right.c.slice(1)}`;
      const said = await proves(prover, { ...right, c }).catch(words);
      const unfit = await proves(prover, { ...right, a: right.a.slice(2) }).catch(words);
      return { said, unfit, proof: await proves(prover, right) };
    });
  },

  /** Seconds of each proof after one to warm up, and of opening; bytes of linear memory. */
  async time(host: Host, files: Files, order: Order): Promise<unknown> {
    const start = performance.now();
    const prover = await Prover.open(files, { host, instances: order.instances });
    const open = (performance.now() - start) / 1e3;
    const seconds: number[] = [];
    let proof: unknown = null;
    for (let turn = 0; turn <= (order.times ?? 1); turn++) {
      const from = performance.now();
      proof = await proves(prover, order.case);
      if (turn > 0) seconds.push((performance.now() - from) / 1e3);
    }
    const { memoryBytes } = prover;
    prover.close();
    return { open, seconds, proof, memoryBytes };
  },
};

/** The outcome of an order; an error as {failed: words}. */
export const follow = (host: Host, files: Files, order: Order): Promise<unknown> =>
  WORK[order.what](host, files, order).catch((error: unknown) => ({ failed: words(error) }));
