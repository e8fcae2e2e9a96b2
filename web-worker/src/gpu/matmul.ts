/**
 * C[m,n] = A[m,k] · B[n,k]ᵀ on one GPU with one committed kernel variant; operands and result lie in the engine's
 * linear memory as row-major int8 and int32.
 *
 * Rows go up by writeBuffer straight from a view of that memory: as they are where k is a multiple of 16, through the
 * packing kernel otherwise. Uploaded operands stay on the device under the operand's key, least recently used first
 * out. Products may overlap: each takes its own buffers, and the queue keeps uploads and dispatches in order.
 */
import { LruBytes } from "../core/lru.ts";
import type { Engine } from "../engine/engine.ts";
import { type KernelEntry, kernelText, manifest } from "../kernels/committed.ts";
import { type Block, kvOf, planBlocks, planSlices, SLICE_MS, tilesPerSlice } from "./plan.ts";
import { BufferPool } from "./pool.ts";

export type Rows = { ptr: number; rows: number; key: string | null };

const OPERAND_CACHE_BYTES = 256 * 1024 * 1024;
const IDLE_BYTES = 128 * 1024 * 1024;
const PACK_WIDTH_MAX = 65_535;
// Named here because Node has no GPUBufferUsage object.
const USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128 } as const;
const MAP_READ_MODE = 1;

type Buffers = { a: GPUBuffer; b: GPUBuffer; c: GPUBuffer; staging: GPUBuffer; bytes: number };

/** What one product holds on the device: pooled buffers, pinned operands, and the error scopes' answers. */
class Use {
  readonly answers: Promise<GPUError | null>[] = [];
  readonly #held: GPUBuffer[] = [];
  readonly #keys: string[] = [];

  constructor(
    readonly pool: BufferPool,
    readonly operands: LruBytes<GPUBuffer>,
  ) {}

  /** A buffer for this product alone, or, with a key, one that stays as an operand afterwards. */
  take(bytes: number, usage: number, key: string | null = null): GPUBuffer {
    const buffer = this.pool.take(bytes, usage);
    if (key === null) {
      this.#held.push(buffer);
    } else {
      this.operands.add(key, buffer, buffer.size, 1);
      this.#keys.push(key);
    }
    return buffer;
  }

  pinned(key: string): GPUBuffer | undefined {
    const buffer = this.operands.get(key);
    if (buffer === undefined) return undefined;
    this.operands.pin(key);
    this.#keys.push(key);
    return buffer;
  }

  async verdict(): Promise<void> {
    const error = (await Promise.all(this.answers)).find((e) => e !== null);
    if (error) throw new Error(error.message);
  }

  /** Gives everything back; after a failure nothing is reused, since nobody knows what it holds. */
  end(good: boolean): void {
    for (const key of this.#keys) {
      this.operands.unpin(key);
      if (!good) this.operands.delete(key);
    }
    for (const buffer of this.#held) {
      if (good) this.pool.give(buffer);
      else buffer.destroy();
    }
    this.operands.trim();
  }
}

export class GpuMatmul {
  readonly text: string;
  readonly #pool: BufferPool;
  readonly #operands: LruBytes<GPUBuffer>;
  readonly #params: GPUBuffer;
  readonly #packParams: GPUBuffer;
  /** 10⁹ operations a second, as far as seen: sets how much work one submission gets. */
  gops = 1;

  private constructor(
    readonly device: GPUDevice,
    readonly engine: Engine,
    readonly entry: KernelEntry,
    readonly limitBytes: number,
    readonly pipeline: GPUComputePipeline,
    readonly packPipeline: GPUComputePipeline,
  ) {
    this.text = kernelText(entry);
    this.#pool = new BufferPool(device, IDLE_BYTES, limitBytes);
    this.#operands = new LruBytes<GPUBuffer>(OPERAND_CACHE_BYTES, (buffer) => this.#pool.give(buffer));
    this.#params = device.createBuffer({ size: 32, usage: USAGE.UNIFORM | USAGE.COPY_DST });
    this.#packParams = device.createBuffer({ size: 32, usage: USAGE.UNIFORM | USAGE.COPY_DST });
  }

  /** Compiles the variant; throws what the compiler says against it. */
  static async create(device: GPUDevice, engine: Engine, entry: KernelEntry, limitBytes: number): Promise<GpuMatmul> {
    const compile = (of: { file: string; entry_point: string }): Promise<GPUComputePipeline> =>
      device.createComputePipelineAsync({
        layout: "auto",
        compute: { module: device.createShaderModule({ code: kernelText(of) }), entryPoint: of.entry_point },
      });
    const [main, pack] = await Promise.all([compile(entry), compile(manifest.pack)]);
    return new GpuMatmul(device, engine, entry, limitBytes, main, pack);
  }

  /** The product into the int32 row-major matrix at `out`. */
  async multiply(a: Rows, b: Rows, k: number, out: number): Promise<void> {
    const blocks = planBlocks(a.rows, b.rows, k, this.limitBytes);
    if (blocks === null) throw new Error(`k = ${k} is over what this adapter's buffers hold`);
    for (const block of blocks) {
      const start = performance.now();
      await this.#block(a, b, k, block, b.rows, out);
      // With transfers and waits in it this is a lower bound; it lets slices grow from a cautious first guess.
      const gops = (2 * block.rows * block.cols * k) / ((performance.now() - start) * 1e6);
      this.gops = Math.max(this.gops, gops);
    }
  }

  /** An operand left the engine's memory: its copy here goes too. */
  forget(key: string): void {
    this.#operands.delete(key);
  }

  destroy(): void {
    this.device.destroy();
  }

  async #block(a: Rows, b: Rows, k: number, block: Block, n: number, out: number): Promise<void> {
    const { row0, rows, col0, cols } = block;
    const bytes = rows * cols * 4;
    const use = new Use(this.#pool, this.#operands);
    try {
      const { bufferA, bufferB, c, staging } = this.#guard(use, () => ({
        bufferA: this.#upload(a, row0, rows, k, use),
        bufferB: this.#upload(b, col0, cols, k, use),
        c: use.take(bytes, USAGE.STORAGE | USAGE.COPY_SRC),
        staging: use.take(bytes, USAGE.MAP_READ | USAGE.COPY_DST),
      }));
      await this.#dispatch(use, { a: bufferA, b: bufferB, c, staging, bytes }, rows, cols, k);
      await Promise.all([staging.mapAsync(MAP_READ_MODE, 0, bytes), use.verdict()]);
      const sums = new Uint8Array(staging.getMappedRange(0, bytes));
      if (cols === n) {
        this.engine.u8(out + row0 * n * 4, bytes).set(sums);
      } else {
        for (let r = 0; r < rows; r++) {
          const at = out + ((row0 + r) * n + col0) * 4;
          this.engine.u8(at, cols * 4).set(sums.subarray(r * cols * 4, (r + 1) * cols * 4));
        }
      }
      staging.unmap();
      use.end(true);
    } catch (error) {
      use.end(false);
      throw error;
    }
  }

  /**
   * Runs `issue` inside error scopes. A refused buffer or dispatch does not throw in WebGPU, it leaves the result
   * buffer as it was; so no result counts before the scopes have answered.
   */
  #guard<T>(use: Use, issue: () => T): T {
    this.device.pushErrorScope("out-of-memory");
    this.device.pushErrorScope("validation");
    try {
      return issue();
    } finally {
      for (const answer of [this.device.popErrorScope(), this.device.popErrorScope()]) {
        // `verdict` awaits them all; a device that dies before must not leave a rejection that nobody handles.
        answer.catch(() => undefined);
        use.answers.push(answer);
      }
    }
  }

  /** Rows `row0 … row0 + rows − 1` packed on the device. Whole operands with a key are kept for the next product. */
  #upload(of: Rows, row0: number, rows: number, k: number, use: Use): GPUBuffer {
    const key = row0 === 0 && rows === of.rows ? of.key : null;
    const known = key === null ? undefined : use.pinned(key);
    if (known !== undefined) return known;
    const packedBytes = rows * kvOf(k) * 16;
    const usage = USAGE.STORAGE | USAGE.COPY_DST;
    const packed = use.take(packedBytes, usage, key);
    const source = this.engine.u8(of.ptr + row0 * k, Math.ceil((rows * k) / 4) * 4);
    if (k % 16 === 0) {
      this.device.queue.writeBuffer(packed, 0, source);
    } else {
      const raw = use.take(source.length, usage);
      this.device.queue.writeBuffer(raw, 0, source);
      this.#pack(raw, source.length, packed, packedBytes, rows, k);
    }
    return packed;
  }

  #pack(raw: GPUBuffer, rawBytes: number, packed: GPUBuffer, packedBytes: number, rows: number, k: number): void {
    const threads = manifest.pack.workgroup_size[0] ?? 64;
    const vectors = rows * kvOf(k);
    const groups = Math.ceil(vectors / threads);
    const across = Math.min(groups, PACK_WIDTH_MAX);
    const params = new Uint32Array([rows, k, kvOf(k), across * threads]);
    this.device.queue.writeBuffer(this.#packParams, 0, params);
    this.#submit(
      this.packPipeline,
      [
        { buffer: this.#packParams, size: params.byteLength },
        { buffer: raw, size: rawBytes },
        { buffer: packed, size: packedBytes },
      ],
      across,
      Math.ceil(groups / across),
    );
  }

  async #dispatch(use: Use, on: Buffers, m: number, n: number, k: number): Promise<void> {
    const { tile_m, tile_n } = this.entry;
    const kv = kvOf(k);
    const bindings = [
      { buffer: this.#params, size: manifest.variants[0]?.params.bytes ?? 20 },
      { buffer: on.a, size: m * kv * 16 },
      { buffer: on.b, size: n * kv * 16 },
      { buffer: on.c, size: on.bytes },
    ];
    const most = tilesPerSlice(this.gops, tile_m, tile_n, k);
    const slices = planSlices(Math.ceil(m / tile_m), Math.ceil(n / tile_n), most);
    let running: Promise<undefined> | null = null;
    for (const [i, slice] of slices.entries()) {
      const last = i === slices.length - 1;
      this.#guard(use, () => {
        const params = new Uint32Array([m, n, kv, slice.tileRow, slice.tileCol]);
        this.device.queue.writeBuffer(this.#params, 0, params);
        this.#submit(this.pipeline, bindings, slice.tilesN, slice.tilesM, last ? on : null);
      });
      if (last) break;
      // One slice runs while the next is queued: the device never idles, and no submission is long.
      const before: Promise<undefined> | null = running;
      running = this.device.queue.onSubmittedWorkDone();
      running.catch(() => undefined);
      const start = performance.now();
      if (before !== null) {
        await before;
        this.#learn(slice.tilesM * slice.tilesN, most, performance.now() - start);
      }
    }
  }

  /** A slice that took far from `SLICE_MS` corrects the rate; noise is smoothed. */
  #learn(tiles: number, most: number, ms: number): void {
    if (ms > SLICE_MS * 2 && tiles > most / 2) this.gops *= Math.max(0.5, SLICE_MS / ms);
  }

  #submit(
    pipeline: GPUComputePipeline,
    bindings: GPUBufferBinding[],
    x: number,
    y: number,
    finish: Buffers | null = null,
  ): void {
    const group = this.device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: bindings.map((resource, binding) => ({ binding, resource })),
    });
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y);
    pass.end();
    if (finish !== null) encoder.copyBufferToBuffer(finish.c, 0, finish.staging, 0, finish.bytes);
    this.device.queue.submit([encoder.finish()]);
  }
}
