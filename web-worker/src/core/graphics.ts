/** The GPU's life: opened, lost, asked for again with back-off, given up; meanwhile the engine does the work. */
import type { Engine } from "../engine/engine.ts";
import { chooseKernel } from "../gpu/choose.ts";
import { openDevice } from "../gpu/device.ts";
import type { Compute } from "./compute.ts";
import type { Status } from "./status.ts";
import { sleep } from "./timing.ts";

const RETRY_MS = [500, 2_000, 8_000, 30_000];

export type Teller = { note(text: string): void; set(change: Partial<Status>): void };

export class Graphics {
  constructor(
    readonly engine: Engine,
    readonly compute: Compute,
    readonly stopping: AbortSignal,
    readonly gpu: GPU | undefined,
    readonly kernel: string | undefined,
    readonly tell: Teller,
  ) {}

  /** Device, self-tested kernel and rates; false, with a note why, where there is none to use. */
  async open(): Promise<boolean> {
    const { compute, engine, tell } = this;
    const adapter = await openDevice(this.gpu, compute.wanted === "webgpu");
    if (typeof adapter === "string") {
      tell.note(`${adapter}; this device computes on its processor.`);
      return false;
    }
    const choice = await chooseKernel(adapter, engine, this.kernel);
    const refused = Array.isArray(choice) ? choice : choice.refused;
    for (const { variant, reason } of refused) tell.note(`Kernel ${variant} is not used: ${reason}.`);
    tell.set({ gpu: adapter.name, refused });
    if (Array.isArray(choice)) {
      adapter.device.destroy();
      tell.note("No graphics kernel gave exact results; this device computes on its processor.");
      return false;
    }
    compute.gpuGops = choice.rate.gops;
    compute.gpuFixedMs = choice.fixedMs;
    compute.gpu = choice.gpu;
    this.#show();
    tell.set({ kernel: choice.gpu.entry.name, trials: choice.trials, gpuRate: choice.rate });
    void adapter.device.lost.then((info) => {
      if (compute.gpu !== choice.gpu || this.stopping.aborted) return;
      compute.gpu = null;
      tell.note(`The graphics unit was lost (${info.message || info.reason}); trying to get it back.`);
      this.#show();
      void this.#reopen();
    });
    return true;
  }

  async #reopen(): Promise<void> {
    for (const ms of RETRY_MS) {
      await sleep(ms * (0.75 + Math.random() / 2));
      if (this.stopping.aborted) return;
      try {
        if (await this.open()) {
          this.tell.note("The graphics unit is back.");
          return;
        }
      } catch (error) {
        this.tell.note(`The graphics unit did not come back: ${String(error)}`);
      }
    }
  }

  #show(): void {
    this.tell.set({ backend: this.compute.main, gops: this.compute.gops });
  }
}
