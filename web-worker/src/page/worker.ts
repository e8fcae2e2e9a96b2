/** Entry of the dedicated worker: everything but the display happens here. */
import engineUrl from "../../../libs/shardy_common/engine/shardy_engine.wasm?url";
import type { Proves } from "../core/proofs.ts";
import type { Settings, Status } from "../core/status.ts";
import { MeshWorker } from "../core/worker.ts";
import { cacheStore } from "../prove/cachestore.ts";
import { openKeyStore } from "./keystore.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

/** The page is told at most this often. */
const REPORT_MS = 100;
const TICK_MS = 1_000;
/** A timer this late means that the browser holds this worker back. */
const LATE_MS = 2_000;

/** A proof takes at most so many cores, and half of them: the device is somebody's. */
const INSTANCES_MAX = 4;

let worker: MeshWorker | null = null;
let reportTimer: ReturnType<typeof setTimeout> | null = null;
let reportedState: string | null = null;

function report(status: Status): void {
  const message: FromWorker = { t: "status", status };
  reportedState = status.state;
  postMessage(message);
}

function changed(status: Status): void {
  // Small tasks alternate between computing and waiting a thousand times a second.
  const flicker = status.state === "computing" || status.state === "waiting";
  if (status.state !== reportedState && !(flicker && reportTimer !== null)) report(status);
  reportTimer ??= setTimeout(() => {
    reportTimer = null;
    report(status);
  }, REPORT_MS);
}

function proves(): Proves {
  const half = Math.floor((navigator.hardwareConcurrency || 2) / 2);
  return {
    // The prover is code that few visits need.
    host: async () => (await import("../prove/page.ts")).pageHost(),
    store: cacheStore(caches),
    instances: Math.max(1, Math.min(INSTANCES_MAX, half)),
  };
}

async function start(settings: Settings, visible: boolean): Promise<void> {
  const response = await fetch(engineUrl);
  if (!response.ok) throw new Error(`the engine can't be loaded (answer ${response.status})`);
  worker = new MeshWorker(settings, {
    keys: await openKeyStore(),
    subtle: crypto.subtle,
    gpu: navigator.gpu,
    engineBytes: await response.arrayBuffer(),
    fetch: (input, init) => fetch(input, init),
    Socket: WebSocket,
    proves: proves(),
    changed,
  });
  worker.visible = visible;
  let due = performance.now() + TICK_MS;
  setInterval(() => {
    const now = performance.now();
    if (worker !== null) worker.throttled = now - due > LATE_MS;
    due = now + TICK_MS;
  }, TICK_MS);
  await worker.run();
}

addEventListener("message", (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if (message.t === "start") {
    // Reported as an error event on the page's side.
    void start(message.settings, message.visible).catch((error: unknown) => reportError(error));
  } else if (message.t === "visible" && worker !== null) {
    worker.visible = message.visible;
  } else if (message.t === "stop") {
    worker?.stop();
  }
});
