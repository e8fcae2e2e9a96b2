/** The page: consent, Start and Stop, and a display of what the dedicated worker reports. */
import type { Backends } from "../core/compute.ts";
import { NEW_STATUS, type Settings, type State, type Status } from "../core/status.ts";
import type { FromWorker, ToWorker } from "./messages.ts";
import { type Display, displayOf, gigabytes } from "./words.ts";

declare global {
  interface Window {
    /** The latest status, for tests and the curious. */
    shardy: Partial<Status> & { started: boolean; pageState: State | "idle"; visible: boolean };
  }
}

/** A worker that does not answer a stop is ended after this long, */
const STOP_MS = 700;
/** one that does after this, so that its goodbye is on the wire. */
const GOODBYE_MS = 100;

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found as T;
}

const query = new URLSearchParams(location.search);
let dedicated: Worker | null = null;

function settings(): Settings {
  const wanted = query.get("backend");
  const backend: Backends = wanted === "wasm" || wanted === "webgpu" ? wanted : "auto";
  const name = (query.get("name") ?? "").replace(/[^\p{L}\p{N} ._-]/gu, "").slice(0, 60);
  const kernel = query.get("kernel");
  return {
    mesh: new URL(query.get("mesh") ?? location.origin).origin,
    agent: `browser-tab/0.1${name === "" ? "" : ` ${name}`}`,
    backend,
    memoryMib: memoryMib(),
    ...(kernel === null ? {} : { kernel }),
  };
}

/** What the person allowed by the query, or an eighth of what the browser says the device has, 1 GiB at most. */
function memoryMib(): number {
  const asked = Number(query.get("memory"));
  if (Number.isInteger(asked) && asked >= 64) return Math.min(asked, 4096);
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return Math.min(1024, Math.max(256, (deviceMemory ?? 8) * 128));
}

function show(display: Display): void {
  element("state").textContent = display.state;
  element("dot").className = `dot ${display.mood}`;
  element("message").textContent = display.message;
  element("speed").textContent = display.speed;
  element("done").textContent = display.done;
  element("verified").textContent = display.verified;
  element("credit").textContent = display.credit;
  element("backend").textContent = display.backend;
  element("tier").textContent = display.tier;
  element("work").textContent = display.work;
  element("proof").hidden = display.proof === null;
  element("proof-text").textContent = display.proof?.text ?? "";
  element<HTMLProgressElement>("proof-part").value = display.proof?.part ?? 0;
  element("notes").replaceChildren(
    ...display.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })),
  );
  element("details").replaceChildren(
    ...display.details.flatMap(([term, text]) => [
      Object.assign(document.createElement("dt"), { textContent: term }),
      Object.assign(document.createElement("dd"), { textContent: text }),
    ]),
  );
}

function received(status: Status): void {
  window.shardy = { ...status, started: dedicated !== null, pageState: status.state, visible: !document.hidden };
  show(displayOf(status));
  if (status.state === "failed") ended();
  if (status.state === "stopped") setTimeout(endedIf, GOODBYE_MS, dedicated);
}

function fail(message: string): void {
  const last = window.shardy as Partial<Status>;
  received({ ...NEW_STATUS, ...last, state: "failed", message });
}

function tell(message: ToWorker): void {
  dedicated?.postMessage(message);
}

function start(): void {
  if (dedicated !== null) return;
  element("consent").hidden = true;
  element("status").hidden = false;
  element("start").hidden = true;
  element("stop").hidden = false;
  if (!window.isSecureContext) {
    fail("This page must be opened over https (or on localhost): browsers allow keys and graphics only there.");
    return;
  }
  dedicated = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "shardy" });
  dedicated.onmessage = (event: MessageEvent<FromWorker>) => received(event.data.status);
  dedicated.onerror = (event) => fail(`The worker of this page failed: ${event.message || "it could not be loaded"}.`);
  received(NEW_STATUS);
  tell({ t: "start", settings: settings(), visible: !document.hidden });
}

function ended(): void {
  dedicated?.terminate();
  dedicated = null;
  window.shardy.started = false;
  element("start").hidden = false;
  element("start").textContent = "Start again";
  element("stop").hidden = true;
}

/** Ends the worker unless another one has been started since. */
function endedIf(running: Worker | null): void {
  if (running !== null && dedicated === running) ended();
}

function stop(): void {
  const stopping = dedicated;
  if (stopping === null) return;
  tell({ t: "stop" });
  element("stop").hidden = true;
  setTimeout(() => {
    if (dedicated !== stopping) return;
    const last = window.shardy as Partial<Status>;
    received({
      ...NEW_STATUS,
      ...last,
      state: "stopped",
      message: "Stopped. Nothing runs any more.",
      work: null,
      proof: null,
      tier: null,
    });
    ended();
  }, STOP_MS);
}

window.shardy = { started: false, pageState: "idle", visible: !document.hidden };
element("consent-memory").textContent = gigabytes(memoryMib());
element("start").addEventListener("click", start);
element("stop").addEventListener("click", stop);
document.addEventListener("visibilitychange", () => tell({ t: "visible", visible: !document.hidden }));
window.addEventListener("pagehide", () => tell({ t: "stop" }));
if (query.get("autostart") === "1") start();
