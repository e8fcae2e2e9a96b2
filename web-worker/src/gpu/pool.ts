/** GPU buffers kept for reuse, by exact usage and a size rounded up to a power of two's quarter steps. */

export class BufferPool {
  readonly #free = new Map<string, GPUBuffer[]>();
  #bytes = 0;

  constructor(
    readonly device: GPUDevice,
    readonly idleBytesMax: number,
    readonly bufferBytesMax: number,
  ) {}

  /** At least `bytes` long; contents are whatever was there. */
  take(bytes: number, usage: number): GPUBuffer {
    const size = Math.max(bytes, Math.min(roomy(bytes), this.bufferBytesMax));
    const found = this.#free.get(`${usage}:${size}`)?.pop();
    if (found !== undefined) {
      this.#bytes -= size;
      return found;
    }
    return this.device.createBuffer({ size, usage });
  }

  give(buffer: GPUBuffer): void {
    if (this.#bytes + buffer.size > this.idleBytesMax) {
      buffer.destroy();
      return;
    }
    const key = `${buffer.usage}:${buffer.size}`;
    const list = this.#free.get(key) ?? [];
    list.push(buffer);
    this.#free.set(key, list);
    this.#bytes += buffer.size;
  }
}

/** Sizes of the form 2^e · {4,5,6,7}/4: at most a quarter is wasted and buffers of like size meet again. */
export function roomy(bytes: number): number {
  const least = Math.max(256, bytes);
  const step = 2 ** Math.max(0, Math.floor(Math.log2(least)) - 2);
  return Math.ceil((Math.ceil(least / step) * step) / 4) * 4;
}
