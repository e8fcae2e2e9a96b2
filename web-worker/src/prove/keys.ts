/**
 * Files of a prover (.zkey, .r1cs) by digest: fetched compressed, kept compressed, and checked each time they are used.
 *
 * A digest is the BLAKE3 of the compressed (gzip) bytes, in hex; whoever names the file says digest and size.
 */
import { Engine, hex } from "../engine/engine.ts";
import { ProveError } from "./module.ts";
import type { OnProgress } from "./prover.ts";

const MIB = 2 ** 20;
/** Of one file, compressed and unpacked. */
export const COMPRESSED_MAX = 256 * MIB;
export const UNPACKED_MAX = 512 * MIB;
/** Of all files kept, compressed. */
export const KEPT_MAX = 512 * MIB;

const DIGEST = /^[0-9a-f]{64}$/;

export type KeyFile = { url: string; digest: string; bytes: number };

/** Where compressed files are kept: Cache Storage (cachestore.ts) or a folder (folderstore.ts). */
export type KeyStore = {
  get(digest: string): Promise<Blob | null>;
  put(digest: string, file: Blob): Promise<void>;
  delete(digest: string): Promise<void>;
  /** The oldest first. */
  list(): Promise<{ digest: string; bytes: number }[]>;
};

export type KeysHost = {
  store: KeyStore;
  fetch: typeof fetch;
  hash(bytes: Uint8Array): Promise<Uint8Array>;
};

/** BLAKE3 by an engine of its own: a large file is then in nobody's linear memory for good. */
export const hashWith =
  (engineBytes: BufferSource): KeysHost["hash"] =>
  async (bytes) =>
    (await Engine.load(engineBytes)).hashBytes(bytes);

export class Keys {
  constructor(
    readonly host: KeysHost,
    readonly keptMax = KEPT_MAX,
  ) {}

  /** The file, unpacked. ProveError where it can't be had or is not the one named. */
  async get(file: KeyFile, call: { signal?: AbortSignal; onProgress?: OnProgress } = {}): Promise<Blob> {
    if (!DIGEST.test(file.digest)) throw new RangeError(`${file.digest} is no digest: 64 hex digits`);
    if (!Number.isInteger(file.bytes) || file.bytes < 1 || file.bytes > COMPRESSED_MAX) {
      throw new ProveError(`the key has ${file.bytes} bytes: at most ${COMPRESSED_MAX} are taken`);
    }
    const kept = await this.#kept(file);
    if (kept !== null) {
      call.onProgress?.({ part: 1, phase: "the key is kept on this device" });
      return unpacked(kept);
    }
    const bytes = await this.#fetched(file, call);
    await this.#keep(file, bytes);
    return unpacked(bytes);
  }

  async #kept(file: KeyFile): Promise<Blob | null> {
    const { store } = this.host;
    const kept = await store.get(file.digest).catch(() => null);
    if (kept === null) return null;
    if (kept.size === file.bytes && (await this.#is(file, new Uint8Array(await kept.arrayBuffer())))) return kept;
    // What was damaged is of no use to anybody.
    await store.delete(file.digest).catch(() => undefined);
    return null;
  }

  async #is(file: KeyFile, bytes: Uint8Array): Promise<boolean> {
    return hex(await this.host.hash(bytes)) === file.digest;
  }

  async #fetched(
    file: KeyFile,
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: OnProgress },
  ): Promise<Blob> {
    const phase = "fetching the key";
    onProgress?.({ part: 0, phase });
    const unreachable = (error: unknown): never => {
      signal?.throwIfAborted();
      throw new ProveError(`the key could not be fetched: ${error instanceof Error ? error.message : String(error)}`);
    };
    // Kept here, it need not be kept by the browser too, which would also give a damaged copy again and again.
    const init: RequestInit = { cache: "no-store", ...(signal === undefined ? {} : { signal }) };
    const response = await this.host.fetch(file.url, init).catch(unreachable);
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new ProveError(`the key could not be fetched (answer ${response.status})`);
    }
    const bytes = new Uint8Array(file.bytes);
    const reader = response.body.getReader();
    let at = 0;
    for (;;) {
      const { done, value } = await reader.read().catch(unreachable);
      if (done) break;
      if (at + value.length > bytes.length) {
        await reader.cancel();
        throw new ProveError("the key that was sent is longer than the one asked for");
      }
      bytes.set(value, at);
      at += value.length;
      onProgress?.({ part: (0.99 * at) / bytes.length, phase });
    }
    if (at < bytes.length || !(await this.#is(file, bytes))) {
      throw new ProveError("the key that was sent is not the one asked for");
    }
    onProgress?.({ part: 1, phase: "the key is here" });
    return new Blob([bytes]);
  }

  /** Keep it, and let the oldest go where there is too much. A full disk is no reason not to prove. */
  async #keep(file: KeyFile, bytes: Blob): Promise<void> {
    if (bytes.size > this.keptMax) return;
    const { store } = this.host;
    try {
      const others = (await store.list()).filter((entry) => entry.digest !== file.digest);
      let sum = others.reduce((total, entry) => total + entry.bytes, bytes.size);
      for (const entry of others) {
        if (sum <= this.keptMax) break;
        await store.delete(entry.digest);
        sum -= entry.bytes;
      }
      await store.put(file.digest, bytes);
    } catch {
      await store.delete(file.digest).catch(() => undefined);
    }
  }
}

async function unpacked(file: Blob): Promise<Blob> {
  let size = 0;
  const counted = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      size += chunk.length;
      if (size > UNPACKED_MAX) throw new ProveError(`the key has more than ${UNPACKED_MAX} bytes when it is unpacked`);
      controller.enqueue(chunk);
    },
  });
  try {
    const stream = file.stream().pipeThrough(new DecompressionStream("gzip")).pipeThrough(counted);
    return await new Response(stream).blob();
  } catch (error) {
    if (error instanceof ProveError) throw error;
    throw new ProveError("the key can't be unpacked: it is no gzip file");
  }
}
