/**
 * One product on the backend that should finish it first, exact on either.
 *
 * A GPU result is checked by one Freivalds round before it counts: a driver that starts to err after the self-test
 * would otherwise have its owner taken for a fraud. A product that fails the check, or that the GPU could not make,
 * is made again in the engine.
 */
import type { Engine } from "../engine/engine.ts";
import type { GpuMatmul } from "../gpu/matmul.ts";
import type { OperandStore } from "./operands.ts";
import { nextTurn, sleep } from "./timing.ts";
import type { BackendName } from "./types.ts";
import { WorkError } from "./types.ts";

/** Rows of int8 in linear memory; `key` names them in caches, null where they won't be seen again. */
export type Matrix = { ptr: number; rows: number; key: string | null; uses: number };
export type Product = { a: Matrix; b: Matrix; k: number; out: number };
export type Backends = "auto" | "wasm" | "webgpu";

/** The engine works at most this long at a stretch, so that a stop or a heartbeat gets its turn. */
const STRETCH_MS = 40;
const GPU_FAULTS_MAX = 3;
const LOSS_KNOWN_MS = 100;

export class Compute {
  gpu: GpuMatmul | null = null;
  wasmGops = 1;
  gpuGops = 0;
  /** Milliseconds a GPU product takes however small it is. */
  gpuFixedMs = 2;
  #gpuFaults = 0;

  constructor(
    readonly engine: Engine,
    readonly store: OperandStore,
    readonly wanted: Backends,
    readonly stopping: AbortSignal,
    readonly gpuFault: (message: string, final: boolean) => void,
  ) {}

  /** The backend whose rate the mesh is told. */
  get main(): BackendName {
    if (this.gpu === null || this.wanted === "wasm") return "wasm";
    return this.wanted === "webgpu" || this.gpuGops > this.wasmGops ? "webgpu" : "wasm";
  }

  get gops(): number {
    return this.main === "webgpu" ? this.gpuGops : this.wasmGops;
  }

  /** Which backend should take 2·m·n·k operations. */
  pick(ops: number): BackendName {
    if (this.gpu === null || this.wanted === "wasm") return "wasm";
    if (this.wanted === "webgpu") return "webgpu";
    return this.gpuFixedMs + ops / (this.gpuGops * 1e6) < ops / (this.wasmGops * 1e6) ? "webgpu" : "wasm";
  }

  /** C = A·Bᵀ at `out`. Small products on the engine finish before this returns; all others give a promise. */
  multiply(p: Product): BackendName | Promise<BackendName> {
    const ops = 2 * p.a.rows * p.b.rows * p.k;
    if (ops === 0) {
      this.engine.u8(p.out, p.a.rows * p.b.rows * 4).fill(0);
      return "wasm";
    }
    if (this.pick(ops) === "webgpu") return this.#onGpu(p);
    const stretchOps = this.wasmGops * 1e6 * STRETCH_MS;
    if (ops > stretchOps) return this.#inStretches(p, stretchOps);
    const { a, b, k, out } = p;
    if (b.key === null || b.uses < 2) {
      this.engine.matmul(a.ptr, b.ptr, out, a.rows, b.rows, k);
    } else {
      this.#withPacked(p, (packed) => this.engine.matmulPacked(a.ptr, packed, out, a.rows, b.rows, k));
    }
    return "wasm";
  }

  async #inStretches(p: Product, stretchOps: number): Promise<BackendName> {
    const { a, b, k, out } = p;
    // Where one row of A is too much for one stretch, the row is cheap enough in memory to be taken whole.
    const step = Math.max(1, Math.floor(stretchOps / (2 * b.rows * k)));
    const size = this.engine.packedSize(b.rows, k);
    const packed = this.store.allocate(size);
    try {
      this.engine.packB(b.ptr, b.rows, k, packed);
      for (let row = 0; row < a.rows; row += step) {
        await nextTurn();
        if (this.stopping.aborted) throw new WorkError("internal", "stopped");
        const rows = Math.min(step, a.rows - row);
        this.engine.matmulPacked(a.ptr + row * k, packed, out + row * b.rows * 4, rows, b.rows, k);
      }
    } finally {
      this.engine.free(packed, size);
    }
    return "wasm";
  }

  /** B prepared once for all leases that share it. */
  #withPacked(p: Product, use: (packed: number) => void): void {
    const { b, k } = p;
    const key = `${b.key}|packed`;
    const size = this.engine.packedSize(b.rows, k);
    const stored = this.store.derive(key, size, (ptr) => this.engine.packB(b.ptr, b.rows, k, ptr));
    try {
      use(stored.ptr);
    } finally {
      this.store.unpin([key]);
    }
  }

  async #onGpu(p: Product): Promise<BackendName> {
    const { a, b, k, out } = p;
    const gpu = this.gpu;
    if (gpu === null) throw new WorkError("device-lost", "the graphics device is gone");
    let fault: string;
    try {
      await gpu.multiply(a, b, k, out);
      const wrong = this.engine.wrongRows(a.ptr, b.ptr, out, a.rows, b.rows, k);
      if (wrong === 0) {
        this.#gpuFaults = 0;
        return "webgpu";
      }
      fault = `${wrong} rows of a product were wrong`;
    } catch (error) {
      // A lost device refuses whatever runs on it, sometimes before it says that it is lost.
      await Promise.race([gpu.device.lost, sleep(LOSS_KNOWN_MS)]);
      await nextTurn();
      if (this.gpu !== gpu) throw new WorkError("device-lost", String(error));
      fault = String(error);
    }
    this.#gpuFaults += 1;
    const final = this.#gpuFaults >= GPU_FAULTS_MAX;
    if (final && this.gpu === gpu) {
      this.gpu = null;
      gpu.destroy();
    }
    this.gpuFault(fault, final);
    return this.#inStretches(p, this.wasmGops * 1e6 * STRETCH_MS);
  }
}
