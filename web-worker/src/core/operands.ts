/**
 * Operands in the engine's linear memory: carried in a lease frame, fetched by digest and range, or derived from
 * such (quantised, packed). One cache bounded by bytes; each entry is one allocation.
 */
import { type Engine, OutOfMemory } from "../engine/engine.ts";
import { LruBytes } from "./lru.ts";
import { sleep } from "./timing.ts";
import { type Operand, operandKey, WorkError } from "./types.ts";

export type Stored = { readonly key: string; readonly ptr: number; readonly len: number; uses: number };

export type BlobSource = { base: string; token: () => string; fetch: typeof fetch };

const FETCH_TRIES = 3;
const FETCH_TIMEOUT_MS = 30_000;

export class OperandStore {
  readonly #cache: LruBytes<Stored>;
  readonly #fetching = new Map<string, Promise<Stored>>();

  constructor(
    readonly engine: Engine,
    capacityBytes: number,
    readonly source: BlobSource,
    dropped: (key: string) => void = () => undefined,
  ) {
    this.#cache = new LruBytes<Stored>(capacityBytes, (stored) => {
      engine.free(stored.ptr, stored.len);
      dropped(stored.key);
    });
  }

  get bytes(): number {
    return this.#cache.bytes;
  }

  /** Room left for prefetching; running work may exceed it. */
  get roomBytes(): number {
    return this.#cache.capacity - this.#cache.pinnedBytes;
  }

  /** Copies a carried segment in. Call `settle` after the leases of its frame have pinned what they need. */
  carry(digest: string, offset: number, bytes: Uint8Array): void {
    const key = operandKey({ d: digest, o: offset, l: bytes.length });
    if (this.#cache.has(key)) return;
    const ptr = this.allocate(bytes.length);
    this.engine.u8(ptr, bytes.length).set(bytes);
    this.#cache.add(key, { key, ptr, len: bytes.length, uses: 0 }, bytes.length);
  }

  settle(): void {
    this.#cache.trim();
  }

  get(key: string): Stored {
    const stored = this.#cache.get(key);
    if (stored === undefined) throw new Error(`operand ${key} is not in memory`);
    return stored;
  }

  pinIfHere(key: string): boolean {
    if (!this.#cache.has(key)) return false;
    this.#cache.pin(key);
    return true;
  }

  unpin(keys: readonly string[]): void {
    for (const key of keys) this.#cache.unpin(key);
    this.#cache.trim();
  }

  /** The operand in memory and pinned. One transfer serves everybody who asks at the same time. */
  async acquire(op: Operand, signal: AbortSignal): Promise<void> {
    const key = operandKey(op);
    for (;;) {
      if (this.pinIfHere(key)) return;
      let pending = this.#fetching.get(key);
      if (pending === undefined) {
        pending = this.#fetch(op, signal).finally(() => this.#fetching.delete(key));
        this.#fetching.set(key, pending);
      }
      await pending;
    }
  }

  /** A derived operand, made by `fill(ptr)` if it is not in memory; returned pinned. */
  derive(key: string, len: number, fill: (ptr: number) => void): Stored {
    if (this.pinIfHere(key)) return this.get(key);
    const ptr = this.allocate(len);
    try {
      fill(ptr);
    } catch (error) {
      this.engine.free(ptr, len);
      throw error;
    }
    return this.adopt(key, ptr, len);
  }

  /** Takes over an allocation as a derived operand, pinned; if the key came in meanwhile, that one is used. */
  adopt(key: string, ptr: number, len: number): Stored {
    if (this.pinIfHere(key)) {
      this.engine.free(ptr, len);
      return this.get(key);
    }
    const stored = { key, ptr, len, uses: 0 };
    this.#cache.add(key, stored, len, 1);
    this.#cache.trim();
    return stored;
  }

  /** Memory from the engine, at the cache's expense if need be. */
  allocate(len: number): number {
    try {
      return this.engine.alloc(len);
    } catch (error) {
      if (!(error instanceof OutOfMemory)) throw error;
      this.#cache.trim(0);
    }
    try {
      return this.engine.alloc(len);
    } catch {
      throw new WorkError("oom", `no room for ${len} bytes`);
    }
  }

  async #fetch(op: Operand, signal: AbortSignal): Promise<Stored> {
    let last = "";
    for (let attempt = 0; attempt < FETCH_TRIES && !signal.aborted; attempt++) {
      if (attempt > 0) await sleep(100 * 2 ** attempt);
      try {
        return await this.#fetchOnce(op, AbortSignal.any([signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]));
      } catch (error) {
        if (error instanceof WorkError) throw error;
        last = String(error);
      }
    }
    throw new WorkError("fetch", `operand ${op.d.slice(0, 12)}…: ${last}`);
  }

  async #fetchOnce(op: Operand, signal: AbortSignal): Promise<Stored> {
    const { base, token, fetch } = this.source;
    const response = await fetch(`${base}/v1/worker/blobs/${op.d}`, {
      headers: { authorization: `Bearer ${token()}`, range: `bytes=${op.o}-${op.o + op.l - 1}` },
      signal,
    });
    if (response.status !== 206 || response.body === null) throw new Error(`answer ${response.status} to a range`);
    const ptr = this.allocate(op.l);
    try {
      let at = 0;
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (at + value.length > op.l) throw new Error(`more than the ${op.l} bytes asked for`);
        this.engine.u8(ptr + at, value.length).set(value);
        at += value.length;
      }
      if (at !== op.l) throw new Error(`${at} of ${op.l} bytes`);
    } catch (error) {
      this.engine.free(ptr, op.l);
      throw error;
    }
    const stored = { key: operandKey(op), ptr, len: op.l, uses: 0 };
    this.#cache.add(stored.key, stored, op.l);
    return stored;
  }
}
