/** Proving keys in a page's Cache Storage, which lists them in the order in which they came. */
import type { KeyStore } from "./keys.ts";

const CACHE = "shardy-proving-keys";
const SIZE_HEADER = "x-shardy-bytes";

/** An address for each digest; nothing is ever fetched from it. */
const addressOf = (digest: string): string => `/shardy-proving-keys/${digest}`;

export function cacheStore(storage: CacheStorage, name = CACHE): KeyStore {
  return {
    async get(digest) {
      const found = await (await storage.open(name)).match(addressOf(digest));
      return found === undefined ? null : found.blob();
    },
    async put(digest, file) {
      const headers = { "content-type": "application/gzip", [SIZE_HEADER]: String(file.size) };
      await (await storage.open(name)).put(addressOf(digest), new Response(file, { headers }));
    },
    async delete(digest) {
      await (await storage.open(name)).delete(addressOf(digest));
    },
    async list() {
      const cache = await storage.open(name);
      const entries: { digest: string; bytes: number }[] = [];
      for (const request of await cache.keys()) {
        const found = await cache.match(request);
        const digest = new URL(request.url).pathname.split("/").pop() ?? "";
        entries.push({ digest, bytes: Number(found?.headers.get(SIZE_HEADER) ?? 0) });
      }
      return entries;
    },
  };
}
