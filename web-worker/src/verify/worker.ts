/**
 * Entry of the page's worker: checks a receipt, and compares arrays with it. Both modules lie in this file, so that it
 * fetches nothing: the page is served under rules that allow no connection at all.
 */
import engineData from "../../../libs/shardy_common/engine/shardy_engine.wasm?inline";
import proverData from "../../../libs/shardy_common/proofs/prover.wasm?inline";
import { Engine } from "../engine/engine.ts";
import { ProverModule } from "../prove/module.ts";
import { Subject } from "./arrays.ts";
import { check } from "./check.ts";
import { lacking } from "./ed25519.ts";
import type { Host } from "./host.ts";
import type { FromWorker, ToWorker } from "./messages.ts";
import { type Matrix, NpyError, readNpy } from "./npy.ts";
import type { Report } from "./report.ts";

/** Between two looks at what the page wants now. */
const PAUSE_MS = 60;
/** What fits into a string of the browser, with room to spare. */
const RECEIPT_BYTES_MAX = 2 ** 28;
const ARRAY_BYTES_MAX = 2 ** 30;

/** The page wants something else by now. */
class Superseded extends Error {}
class Unfit extends Error {}

let receipt: Uint8Array<ArrayBuffer> | null = null;
let subject: Subject | null = null;
let latest = 0;
let module: Promise<ProverModule> | null = null;
const hosted = start();

function decoded(data: string): Uint8Array<ArrayBuffer> {
  const text = atob(data.slice(data.indexOf(",") + 1));
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

const tell = (message: FromWorker): void => postMessage(message);

async function start(): Promise<Host | null> {
  // Not there in contexts that are not secure.
  const { subtle } = crypto as { subtle?: SubtleCrypto };
  const without = await lacking(subtle);
  const engine = await Engine.load(decoded(engineData));
  tell({ t: "ready", lacking: without });
  if (subtle === undefined || without !== null) return null;
  return { engine, subtle, proofs: () => (module ??= ProverModule.load(decoded(proverData))) };
}

/** Told of each step: shows some of them, and gives way to newer wishes. */
function progress(id: number, text: string): (done: number, of: number) => Promise<void> | void {
  let due = performance.now() + PAUSE_MS;
  return (done, of) => {
    if (performance.now() < due) return undefined;
    due = performance.now() + PAUSE_MS;
    const counted = `${done.toLocaleString("en")} of ${of.toLocaleString("en")}`;
    tell({ t: "progress", id, part: done / of, text: `${text} ${counted}` });
    return new Promise((resolve, reject) => {
      setTimeout(() => (id === latest ? resolve() : reject(new Superseded())), 0);
    });
  };
}

async function checked(host: Host, { id, receipt: given, keys }: ToWorker & { t: "check" }): Promise<void> {
  if (given !== null) {
    [receipt, subject] = [null, null];
    if (given.size > RECEIPT_BYTES_MAX) {
      const most = `${RECEIPT_BYTES_MAX / 2 ** 20} MiB`;
      throw new Unfit(`This page takes receipts of up to ${most}: shardy verify takes larger ones.`);
    }
    receipt = await bytesOf(given);
  }
  if (receipt === null) return;
  const report = await check(receipt, host, { meshKeys: keys, onProgress: progress(id, "Checking task") });
  subject = report.ok ? (subject ?? new Subject(receipt)) : null;
  tell({ t: "checked", id, report: plain(report), wanted: subject?.wanted ?? [] });
}

async function compared(host: Host, { id, files }: ToWorker & { t: "compare" }): Promise<void> {
  if (subject === null) return;
  const arrays = new Map<string, Matrix>();
  for (const [name, file] of files) {
    if (file.size > ARRAY_BYTES_MAX) throw new Unfit(`${name}: no array of a mesh has more than 1 GiB.`);
    try {
      arrays.set(name, readNpy(await bytesOf(file)));
    } catch (error) {
      if (error instanceof NpyError) throw new Unfit(`${name}: ${error.message}`);
      throw error;
    }
  }
  const { problems, tiles, operands, proofs } = await subject.compare(arrays, host, progress(id, "Comparing task"));
  tell({ t: "compared", id, report: { problems, tiles, operands, proofs } });
}

async function bytesOf(file: Blob): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Unfit("The file can't be read: was it changed or moved? Choose it again.");
  }
}

function plain({ problems, vouched, type, mesh, job, key, tasks, ops, workers, methods, ...rest }: Report): Extract<
  FromWorker,
  { t: "checked" }
>["report"] {
  const { signed, unsigned, proofs, development } = rest;
  const counts = { tasks, ops, workers: workers.size, methods: [...methods], signed, unsigned, proofs, development };
  return { problems: [...problems], vouched, type, mesh, job, key, ...counts };
}

async function answer(message: ToWorker): Promise<void> {
  const host = await hosted;
  if (host === null || message.id !== latest) return;
  try {
    await (message.t === "check" ? checked(host, message) : compared(host, message));
  } catch (error) {
    if (error instanceof Superseded) return;
    if (!(error instanceof Unfit)) reportError(error);
    tell({ t: "failed", id: message.id, message: error instanceof Error ? error.message : String(error) });
  }
}

addEventListener("message", (event: MessageEvent<ToWorker>) => {
  latest = event.data.id;
  void answer(event.data);
});
hosted.catch((error: unknown) => reportError(error));
