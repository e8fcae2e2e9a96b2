/**
 * The engine module (docs/engine-abi.md) as a typed object. Pointers are byte offsets into its linear memory.
 *
 * A view from `u8` is valid until the next `alloc`: growing the memory detaches it.
 */

export const ENGINE_ABI = 1;

type Exports = {
  memory: WebAssembly.Memory;
  abi_version(): number;
  alloc_bytes(len: number): number;
  free_bytes(ptr: number, len: number): void;
  matmul_i8(a: number, b: number, c: number, m: number, n: number, k: number): number;
  packed_size(n: number, k: number): number;
  pack_b(b: number, n: number, k: number, packed: number): number;
  matmul_i8_packed(a: number, packed: number, c: number, m: number, n: number, k: number): number;
  preexec_f32(
    x: number,
    rowsIn: number,
    warmRows: number,
    cols: number,
    lo: number,
    hi: number,
    axis: number,
    alpha: number,
    tensorAbsmax: number,
    q: number,
    scale: number,
  ): number;
  freivalds_i8(
    a: number,
    b: number,
    c: number,
    m: number,
    n: number,
    k: number,
    seed: number,
    rounds: number,
    badRows: number,
  ): number;
  blake3_hash(ptr: number, len: number, out: number): number;
  blake3_xof(ptr: number, len: number, out: number, outLen: number): number;
};

export class EngineError extends Error {}
export class OutOfMemory extends EngineError {}

const MEANING: Record<number, string> = {
  [-1]: "bad argument",
  [-2]: "shape limit",
  [-3]: "bounds refused",
  [-4]: "no memory",
};

/** The allocation is rounded up to this, so a writeBuffer of whole words never leaves it. */
const GRAIN = 64;
const rounded = (len: number): number => Math.max(GRAIN, Math.ceil(len / GRAIN) * GRAIN);

export class Engine {
  readonly #x: Exports;
  readonly #out32: number;
  /** Bytes now held by callers of `alloc`. */
  bytesInUse = 0;

  private constructor(exports: Exports) {
    this.#x = exports;
    const version = exports.abi_version();
    if (version !== ENGINE_ABI) throw new EngineError(`engine ABI ${version}, this program speaks ${ENGINE_ABI}`);
    this.#out32 = this.alloc(32);
  }

  static async load(module: BufferSource): Promise<Engine> {
    const { instance } = await WebAssembly.instantiate(module, {});
    return new Engine(instance.exports as unknown as Exports);
  }

  alloc(len: number): number {
    const size = rounded(len);
    const ptr = this.#x.alloc_bytes(size) >>> 0;
    if (ptr === 0) throw new OutOfMemory(`no room for ${len} bytes; ${this.bytesInUse} are in use`);
    this.bytesInUse += size;
    return ptr;
  }

  /** `len` as given to `alloc`. */
  free(ptr: number, len: number): void {
    const size = rounded(len);
    this.#x.free_bytes(ptr, size);
    this.bytesInUse -= size;
  }

  /** A fresh allocation holding a copy of `bytes`. */
  put(bytes: Uint8Array): number {
    const ptr = this.alloc(bytes.length);
    this.u8(ptr, bytes.length).set(bytes);
    return ptr;
  }

  u8(ptr: number, len: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#x.memory.buffer, ptr, len);
  }

  /** Bytes of the whole linear memory, which never shrinks. */
  get memoryBytes(): number {
    return this.#x.memory.buffer.byteLength;
  }

  /** C[m,n] = A[m,k] · B[n,k]ᵀ, int8 to int32, k ≤ 65,535. */
  matmul(a: number, b: number, c: number, m: number, n: number, k: number): void {
    this.#check("matmul_i8", this.#x.matmul_i8(a, b, c, m, n, k));
  }

  packedSize(n: number, k: number): number {
    return this.#x.packed_size(n, k) >>> 0;
  }

  packB(b: number, n: number, k: number, packed: number): void {
    this.#check("pack_b", this.#x.pack_b(b, n, k, packed));
  }

  matmulPacked(a: number, packed: number, c: number, m: number, n: number, k: number): void {
    this.#check("matmul_i8_packed", this.#x.matmul_i8_packed(a, packed, c, m, n, k));
  }

  /** Rows of C that fail one Freivalds round with a fresh secret seed; a wrong row passes with chance 1/(2³¹−1). */
  wrongRows(a: number, b: number, c: number, m: number, n: number, k: number): number {
    const seed = this.put(crypto.getRandomValues(new Uint8Array(32)));
    const badRows = this.alloc(m);
    try {
      const count = this.#x.freivalds_i8(a, b, c, m, n, k, seed, 1, badRows);
      this.#check("freivalds_i8", count);
      return count;
    } finally {
      this.free(badRows, m);
      this.free(seed, 32);
    }
  }

  /** docs/protocol.md §4.3 over one segment: f32[rowsIn, cols] → q int8[rowsIn − warmRows, cols], scale f32[…]. */
  preexec(
    x: number,
    rowsIn: number,
    warmRows: number,
    cols: number,
    bounds: { lo: number; hi: number; axis: number; alpha: number; tensorAbsmax: number },
    q: number,
    scale: number,
  ): void {
    const { lo, hi, axis, alpha, tensorAbsmax } = bounds;
    this.#check(
      "preexec_f32",
      this.#x.preexec_f32(x, rowsIn, warmRows, cols, lo, hi, axis, alpha, tensorAbsmax, q, scale),
    );
  }

  /** BLAKE3 of `len` bytes at `ptr`, copied out. */
  hash(ptr: number, len: number): Uint8Array<ArrayBuffer> {
    this.#x.blake3_hash(ptr, len, this.#out32);
    return this.u8(this.#out32, 32).slice();
  }

  hashBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    const ptr = this.put(bytes);
    try {
      return this.hash(ptr, bytes.length);
    } finally {
      this.free(ptr, bytes.length);
    }
  }

  /** First `outLen` bytes of BLAKE3's extended output of `input`, written at `out`. */
  xof(input: Uint8Array, out: number, outLen: number): void {
    const ptr = this.put(input);
    this.#x.blake3_xof(ptr, input.length, out, outLen);
    this.free(ptr, input.length);
  }

  #check(name: string, code: number): void {
    if (code === -4) throw new OutOfMemory(name);
    if (code < 0) throw new EngineError(`${name}: ${MEANING[code] ?? code}`);
  }
}

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
