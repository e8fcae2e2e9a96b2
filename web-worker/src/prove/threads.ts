/**
 * The prover's host in Node and Bun: instances are threads that run the program's own file again.
 *
 * So that one file is enough, the program asks first thing: `if (!servesAsThread()) await main();`.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { Host } from "./instance.ts";
import { type Answer, buffersOf, type Job, Serving } from "./serve.ts";

const MARK = "shardy-prover";

/** Whether this is a thread of the prover; then it serves from now on. */
export function servesAsThread(): boolean {
  const port = parentPort;
  if (isMainThread || port === null || workerData !== MARK) return false;
  const serving = new Serving();
  port.on("message", (job: Job) => {
    void serving.answer(job).then((answer) => port.postMessage(answer, buffersOf(answer)));
  });
  return true;
}

/** module: the bytes of prover.wasm. file: the program, which calls `servesAsThread`. */
export function threadHost(module: Uint8Array, file: URL): Host {
  return {
    module,
    start(answered, failed) {
      const worker = new Worker(file, { workerData: MARK });
      worker.on("message", (answer: Answer) => {
        worker.unref();
        answered(answer);
      });
      worker.on("messageerror", () => failed("its answer could not be read"));
      worker.on("error", (error) => failed(error instanceof Error ? error.message : String(error)));
      worker.on("exit", () => failed("it ended"));
      return {
        send: (job, transfer) => {
          // A thread keeps the process alive while it works, and not while it waits.
          worker.ref();
          worker.postMessage(job, transfer);
        },
        end: () => void worker.terminate(),
      };
    },
  };
}
