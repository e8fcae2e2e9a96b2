/** `shardy-worker`: the worker of this folder in Node or Bun, without a page. */
import { freemem } from "node:os";
import engineData from "../../../libs/shardy_common/engine/shardy_engine.wasm?inline";
import { version } from "../../package.json";
import type { Ending, Settings, Status } from "../core/status.ts";
import { MeshWorker } from "../core/worker.ts";
import { servesAsThread } from "../prove/threads.ts";
import { defaultKeyPath, loadOrCreate, NO_STORE, storeOf } from "./keyfile.ts";
import { HELP, MEMORY_MIB_MIN, type Options, optionsFrom, UsageError } from "./options.ts";
import { provesOf } from "./proves.ts";
import { CLI_WORDS, jsonOf, Story, summary } from "./report.ts";
import { socketClass } from "./socket.ts";

const FIRST_TRIES = 5;
const MEMORY_MIB_MOST = 1024;
/** A goodbye that takes longer than this is not waited for. */
const GOODBYE_MS = 700;
/** Small tasks change the status thousands of times a second. */
const JSON_MS = 200;
const PROGRESS_MS = 60_000;

const EXIT = { done: 0, failed: 1, usage: 2, unreachable: 3, refused: 4 } as const;
/** Refusals of this key or device; the others are disagreements between programs. */
const REFUSED = [4401, 4403, 4409];

const say = (text: string): void => void process.stderr.write(`${text}\n`);

function memoryMib(): number {
  const { availableMemory } = process as { availableMemory?: () => number };
  const free = availableMemory?.() ?? freemem();
  return Math.max(MEMORY_MIB_MIN, Math.min(MEMORY_MIB_MOST, Math.floor(free / 2 ** 21)));
}

function settingsOf(options: Options, gpu: GPU | undefined): Settings {
  if (options.backend === "webgpu" && gpu === undefined) {
    throw new UsageError("--backend webgpu: this runtime has no WebGPU; leave the option out");
  }
  const runtime = "bun" in process.versions ? "bun" : "node";
  return {
    mesh: options.mesh,
    agent: `${runtime}/${version.split(".", 2).join(".")} ${options.name}`.trim(),
    backend: gpu === undefined ? "wasm" : options.backend,
    memoryMib: options.memoryMib ?? memoryMib(),
    firstTries: FIRST_TRIES,
  };
}

/** Writes what changed, as the options want it. */
function reporter(options: Options): { changed: (status: Status) => void; flush: () => void } {
  const story = new Story();
  let latest: Status | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let last = "";
  let lastState = "";
  const flush = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (!options.json || latest === null) return;
    const line = jsonOf(latest);
    lastState = latest.state;
    if (line !== last) process.stdout.write(`${line}\n`);
    last = line;
  };
  const changed = (status: Status): void => {
    latest = status;
    for (const { text, wrong } of story.news(status)) if (wrong || !options.quiet) say(text);
    if (!options.json) return;
    const flicker = status.state === "computing" || status.state === "waiting";
    if (status.state !== lastState && !flicker) flush();
    else timer ??= setTimeout(flush, JSON_MS);
  };
  const progress = setInterval(() => {
    const line = latest === null ? null : story.progress(latest);
    if (line !== null && !options.quiet) say(line);
  }, PROGRESS_MS);
  progress.unref();
  return { changed, flush };
}

function exitCode(ending: Ending): number {
  if (ending.why === "stopped") return EXIT.done;
  if (ending.why === "unreachable") return EXIT.unreachable;
  return ending.why === "refused" && REFUSED.includes(ending.code) ? EXIT.refused : EXIT.failed;
}

function leave(code: number): void {
  // What is written to a pipe may still be on its way.
  process.stdout.write("", () => process.exit(code));
}

/** Node 20 calls Ed25519 in WebCrypto an experiment; that is no news for whoever runs a worker. */
function quietenExperiments(): void {
  process.removeAllListeners("warning");
  process.on("warning", (warning) => {
    if (warning.name !== "ExperimentalWarning") say(`warning: ${warning.message}`);
  });
}

async function work(options: Options): Promise<number> {
  const gpu = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  const settings = settingsOf(options, gpu);
  const { subtle } = globalThis.crypto;
  const keys = options.ephemeral
    ? NO_STORE
    : storeOf(loadOrCreate(options.keyFile ?? defaultKeyPath(process.env)), subtle);
  const report = reporter(options);
  const worker = new MeshWorker(settings, {
    keys,
    subtle,
    gpu,
    engineBytes: new Uint8Array(Buffer.from(engineData.slice(engineData.indexOf(",") + 1), "base64")),
    fetch: (input, init) => fetch(input, init),
    Socket: socketClass(process.versions),
    proves: provesOf(new URL(import.meta.url), process.env),
    changed: report.changed,
    words: CLI_WORDS,
  });
  // Between two sockets nothing else keeps the process alive.
  const alive = setInterval(() => undefined, 1_000);
  const goodbye = new Promise<Ending>((resolve) => {
    let stops = 0;
    const stop = (): void => {
      stops += 1;
      if (stops > 1) process.exit(EXIT.done);
      worker.stop();
      setTimeout(() => resolve({ why: "stopped" }), GOODBYE_MS);
    };
    process.on("SIGINT", stop);
    process.on("SIGTERM", stop);
    // The reader of a pipe has seen enough.
    process.stdout.on("error", stop);
  });
  const ending = await Promise.race([worker.run(), goodbye]);
  clearInterval(alive);
  report.flush();
  if (ending.why === "unreachable") {
    say(`error: cannot reach the mesh at ${options.mesh}${ending.message ? `: ${ending.message}` : ""}`);
  } else if (ending.why !== "stopped") {
    say(`error: ${ending.message}`);
  } else if (!options.quiet) {
    say(`left the mesh; ${summary(worker.status)}`);
  }
  return exitCode(ending);
}

async function main(): Promise<void> {
  try {
    const options = optionsFrom(process.argv.slice(2), process.env);
    if (options === "help") process.stdout.write(HELP);
    else if (options === "version") process.stdout.write(`shardy-worker ${version}\n`);
    if (typeof options === "string") return leave(EXIT.done);
    quietenExperiments();
    leave(await work(options));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    say(`error: ${error.message}`);
    leave(EXIT.usage);
  }
}

// The prover's threads run this file again. Nothing is awaited: what is loaded later comes after this in the one file.
if (!servesAsThread()) void main();
