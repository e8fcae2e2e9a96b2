/** The prover's host in a page or in its dedicated worker: instances are Web Workers. */
import moduleUrl from "../../../libs/shardy_common/proofs/prover.wasm?url";
import type { Host } from "./instance.ts";
import { ProveError } from "./module.ts";
import type { Answer } from "./serve.ts";

export async function pageHost(): Promise<Host> {
  const response = await fetch(moduleUrl);
  if (!response.ok) throw new ProveError(`the prover can't be loaded (answer ${response.status})`);
  return {
    module: new Uint8Array(await response.arrayBuffer()),
    start(answered, failed) {
      const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "shardy-prover" });
      worker.onmessage = (event: MessageEvent<Answer>) => answered(event.data);
      worker.onerror = (event) => failed(event.message || "it could not be loaded");
      worker.onmessageerror = () => failed("its answer could not be read");
      return { send: (job, transfer) => worker.postMessage(job, transfer), end: () => worker.terminate() };
    },
  };
}
