/** The driver in a page: `window.prover` follows orders, with files by address; keys through Cache Storage too. */
import engineUrl from "../../../libs/shardy_common/engine/shardy_engine.wasm?url";
import { cacheStore } from "../../src/prove/cachestore.ts";
import { hashWith, type KeyFile, Keys } from "../../src/prove/keys.ts";
import { pageHost } from "../../src/prove/page.ts";
import { Prover } from "../../src/prove/prover.ts";
import { follow, type Order, proves } from "./driver.ts";

const fetched = async (url: string): Promise<Blob> => (await fetch(url)).blob();

let opened: Prover | null = null;

const driver = {
  /** Keep a prover for `once`; the seconds that it took to open. */
  async open(zkey: string, r1cs: string, instances: number): Promise<number> {
    opened?.close();
    const host = await pageHost();
    const files = { zkey: await fetched(zkey), r1cs: await fetched(r1cs) };
    const start = performance.now();
    opened = await Prover.open(files, { host, instances });
    return (performance.now() - start) / 1e3;
  },

  /** A proof by the prover that was opened, and the seconds that it took. */
  async once(order: Order): Promise<unknown> {
    if (opened === null) throw new Error("no prover was opened");
    const start = performance.now();
    const proved = await proves(opened, order.case);
    return { seconds: (performance.now() - start) / 1e3, ...proved, memoryBytes: opened.memoryBytes };
  },

  async follow(zkey: string, r1cs: string, order: Order): Promise<unknown> {
    return follow(await pageHost(), { zkey: await fetched(zkey), r1cs: await fetched(r1cs) }, order);
  },

  /** Sizes of the files, unpacked, got one after another with at most `keptMax` bytes kept; and what is kept then. */
  async keys(files: KeyFile[], keptMax: number): Promise<unknown> {
    const store = cacheStore(caches);
    const hash = hashWith(await (await fetched(engineUrl)).arrayBuffer());
    const keys = new Keys({ store, fetch: (...call) => fetch(...call), hash }, keptMax);
    const sizes: unknown[] = [];
    for (const file of files) {
      sizes.push(await keys.get(file).then(({ size }) => size, String));
    }
    return { sizes, kept: await store.list() };
  },

  /** Change a byte of what is kept under a digest. */
  async damage(digest: string): Promise<void> {
    const store = cacheStore(caches);
    const kept = new Uint8Array(await ((await store.get(digest)) as Blob).arrayBuffer());
    kept[kept.length >> 1] = (kept[kept.length >> 1] as number) ^ 1;
    await store.put(digest, new Blob([kept]));
  },
};

declare global {
  interface Window {
    prover: typeof driver;
  }
}
window.prover = driver;
