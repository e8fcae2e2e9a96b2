/** Compiles, self-tests and measures the variants an adapter can run, and keeps the fastest exact one. */
import { fixedCost, measure, type Rate, selfTest } from "../core/measure.ts";
import type { Engine } from "../engine/engine.ts";
import { type KernelEntry, manifest } from "../kernels/committed.ts";
import type { Adapter } from "./device.ts";
import { GpuMatmul } from "./matmul.ts";

export type Refusal = { variant: string; reason: string };
export type Trial = { variant: string; gops: number };
export type Choice = { gpu: GpuMatmul; rate: Rate; fixedMs: number; trials: Trial[]; refused: Refusal[] };

/** Short measurements rank the variants; only the winner gets the full one. */
const RANK_MS = 20;
const RANK_RUNS = 3;
const FIRST_SIDE = 128;

function runnable(adapter: Adapter, entry: KernelEntry): boolean {
  const { limits } = adapter.device;
  const [x = 1, y = 1] = entry.workgroup_size;
  return (
    entry.uses_dp4a === adapter.dp4a &&
    entry.workgroup_memory_bytes <= limits.maxComputeWorkgroupStorageSize &&
    x * y <= limits.maxComputeInvocationsPerWorkgroup
  );
}

/** The best variant, or what was wrong with each. */
export async function chooseKernel(adapter: Adapter, engine: Engine, only?: string): Promise<Choice | Refusal[]> {
  const refused: Refusal[] = [];
  const trials: { gpu: GpuMatmul; gops: number }[] = [];
  const entries = manifest.variants.filter((entry) =>
    only === undefined ? runnable(adapter, entry) : entry.name === only,
  );
  // If the builtin gives wrong sums on this driver, the shifts may still be right.
  const fallback = only === undefined && adapter.dp4a ? manifest.variants.filter((e) => !e.uses_dp4a) : [];
  for (const entry of [...entries, ...fallback]) {
    if (!entry.uses_dp4a && adapter.dp4a && trials.length > 0) break;
    try {
      const gpu = await GpuMatmul.create(adapter.device, engine, entry, adapter.limitBytes);
      const fault = await selfTest(engine, gpu.multiply.bind(gpu));
      if (fault !== null) {
        refused.push({ variant: entry.name, reason: `differs from the engine: ${fault}` });
        continue;
      }
      // A single candidate needs no ranking.
      const gops =
        only === undefined ? (await measure(engine, gpu.multiply.bind(gpu), FIRST_SIDE, RANK_MS, RANK_RUNS)).gops : 0;
      trials.push({ gpu, gops });
    } catch (error) {
      refused.push({ variant: entry.name, reason: String(error) });
    }
  }
  trials.sort((x, y) => y.gops - x.gops);
  const best = trials[0];
  if (best === undefined) return refused;
  const multiply = best.gpu.multiply.bind(best.gpu);
  const rate = await measure(engine, multiply, FIRST_SIDE);
  best.gops = rate.gops;
  const fixedMs = await fixedCost(engine, multiply);
  return {
    gpu: best.gpu,
    rate,
    fixedMs,
    trials: trials.map((t) => ({ variant: t.gpu.entry.name, gops: t.gops })),
    refused,
  };
}
