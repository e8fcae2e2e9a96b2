/** The page: takes a receipt, a key and arrays, hands them to its worker, and shows what that found. */
import type { Wanted } from "./arrays.ts";
import type { Checked, FromWorker, ToWorker } from "./messages.ts";
import { claimsOf, comparedOf, factsOf, keysIn, type Mood, shown, verdictOf } from "./words.ts";

const KEPT = "shardy-mesh-key";
const KEY = /^[0-9a-f]{64}$/;
const LABELS: Readonly<Record<string, string>> = { a: "A", b: "B", c: "C", x: "X", q: "Q" };

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found as T;
}

function make<K extends keyof HTMLElementTagNameMap>(
  name: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
): HTMLElementTagNameMap[K] {
  return Object.assign(document.createElement(name), properties);
}

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "shardy-verify" });
const keyField = element<HTMLInputElement>("key");
let latest = 0;
/** A receipt was given, and the worker has it. */
let given = false;
let keysGiven = false;
let wanted: Wanted[] = [];
const files = new Map<string, File>();

// The key

function keep(text: string): void {
  try {
    if (text === "") localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, text);
  } catch {
    // A private window may keep nothing.
  }
}

function kept(): string {
  try {
    return localStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

/** The keys that were named; null where what was typed is none, which is said. */
function namedKeys(): { keys: string[] | null } | null {
  const { keys, wrong } = keysIn(keyField.value);
  keyField.ariaInvalid = wrong === null ? "false" : "true";
  element("key-error").textContent =
    wrong === null ? "" : `“${wrong.slice(0, 80)}” is no key of a mesh: one has 64 hex digits.`;
  if (wrong !== null) return null;
  keep(keyField.value.trim());
  return { keys };
}

// Asking

function tell(message: ToWorker): void {
  worker.postMessage(message);
}

function check(receipt: Blob | null): void {
  if (receipt === null && !given) {
    namedKeys();
    return;
  }
  given = true;
  latest += 1;
  clear();
  const named = namedKeys();
  if (named === null) {
    say("open", "Not checked yet", "What stands in the field of the key is none.");
    if (receipt !== null) tell({ t: "check", id: latest, receipt, keys: null }); // the worker keeps it for later
    latest += 1;
    return;
  }
  keysGiven = named.keys !== null;
  busy("Checking…", 0);
  tell({ t: "check", id: latest, receipt, keys: named.keys });
}

function compare(): void {
  latest += 1;
  element("compared").textContent = "";
  element("differences").replaceChildren();
  if (files.size === 0) return;
  busy("Comparing…", 0);
  tell({ t: "compare", id: latest, files: [...files] });
}

function take(file: File): void {
  element("chosen").textContent = `${file.name}, ${file.size.toLocaleString("en")} bytes`;
  check(file);
}

/** Files of arrays go to the fields of their names, anything else is a receipt. */
function dropped(list: FileList): void {
  let arrays = 0;
  for (const file of list) {
    const stem = file.name.toLowerCase().replace(/\.npy$/, "");
    if (!file.name.toLowerCase().endsWith(".npy")) {
      take(file);
      return;
    }
    if (!wanted.some(({ name }) => name === stem)) continue;
    files.set(stem, file);
    element(`told-${stem}`).textContent = file.name;
    arrays += 1;
  }
  if (arrays > 0) compare();
  else {
    const names = wanted.map(({ name }) => `${name}.npy`).join(", ");
    mood("compared", "bad", `No array here has that name. Call it one of ${names}.`);
  }
}

// Showing

function busy(text: string, part: number): void {
  element("result").hidden = false;
  element("progress").hidden = false;
  element("progress-text").textContent = text;
  element<HTMLProgressElement>("progress-part").value = part;
}

function clear(): void {
  element("verdict").hidden = true;
  element("worth").hidden = true;
  element("arrays").hidden = true;
  for (const id of ["problems", "facts", "claims"]) element(id).replaceChildren();
}

function say(mood: Mood, title: string, text: string, warning = ""): void {
  element("result").hidden = false;
  element("progress").hidden = true;
  element("verdict").className = `verdict ${mood}`;
  element("verdict-title").textContent = title;
  element("verdict-text").textContent = text;
  element("verdict-warning").textContent = warning;
  element("verdict-warning").hidden = warning === "";
  element("verdict").hidden = false;
}

function mood(id: string, of: Mood, text: string): void {
  element(id).className = `compared ${of}`;
  element(id).textContent = text;
}

const items = (texts: readonly string[]): HTMLElement[] => texts.map((textContent) => make("li", { textContent }));

function pairs(entries: readonly [term: string, text: string][]): HTMLElement[] {
  return entries.flatMap(([term, text]) => [
    make("dt", { textContent: term }),
    make("dd", { textContent: text, className: KEY.test(text) ? "mono" : "" }),
  ]);
}

function showChecked(report: Checked, arrays: Wanted[]): void {
  const verdict = verdictOf(report, keysGiven);
  say(verdict.mood, verdict.title, verdict.text, verdict.warning);
  element("problems").replaceChildren(...items(shown(report.problems)));
  element("facts").replaceChildren(...pairs(factsOf(report)));
  const claims = claimsOf(report);
  element("worth").hidden = claims.length === 0;
  element("claims").replaceChildren(
    ...claims.flatMap(([method, claimed, not]) => pairs([[method, `Claimed: ${claimed}. Not claimed: ${not}.`]])),
  );
  offer(arrays);
}

/** Fields for the arrays that the receipt is about; what was chosen for the same ones stays. */
function offer(arrays: Wanted[]): void {
  element("arrays").hidden = arrays.length === 0;
  if (JSON.stringify(arrays) !== JSON.stringify(wanted)) {
    files.clear();
    element("fields").replaceChildren(...arrays.map(field));
    element("compared").textContent = "";
    element("differences").replaceChildren();
  }
  wanted = arrays;
}

function field({ name, dtype, shape, role }: Wanted): HTMLElement {
  const about = `${LABELS[name] ?? name}, ${role}, ${dtype} ${shape.join("×")}`;
  const label = make("label", { htmlFor: `array-${name}`, textContent: about });
  if (name === "b") label.append(` (or ${[...shape].reverse().join("×")}, as NumPy multiplies)`);
  const input = make("input", { type: "file", id: `array-${name}`, accept: ".npy" });
  input.setAttribute("aria-describedby", `told-${name}`);
  const chosen = (): void => {
    const file = input.files?.[0];
    if (file === undefined) files.delete(name);
    else files.set(name, file);
    element(`told-${name}`).textContent = "";
    compare();
  };
  input.addEventListener("change", chosen);
  input.addEventListener("cancel", chosen);
  forgetful(input);
  const row = make("div", { className: "array" });
  row.append(label, input, make("span", { id: `told-${name}`, className: "chosen" }));
  return row;
}

/** A file that was changed and is chosen again is taken again: of the same name, the browser would say nothing. */
function forgetful(input: HTMLInputElement): void {
  input.addEventListener("click", () => (input.value = ""));
}

function received(message: FromWorker): void {
  if (message.t === "ready") {
    if (message.lacking !== null) say("open", "Nothing can be checked here", message.lacking);
    document.documentElement.dataset.ready = message.lacking === null ? "yes" : "no";
    return;
  }
  if (message.id !== latest) return;
  if (message.t === "progress") busy(`${message.text}…`, message.part);
  else {
    element("progress").hidden = true;
    if (message.t === "checked") showChecked(message.report, message.wanted);
    else if (message.t === "compared") {
      const { mood: of, text } = comparedOf(message.report);
      mood("compared", of, text);
      element("differences").replaceChildren(...items(shown(message.report.problems)));
    } else if (element("verdict").hidden) say("bad", "NOT VERIFIED", message.message);
    else mood("compared", "bad", message.message);
  }
}

// Wiring

worker.onmessage = (event: MessageEvent<FromWorker>) => received(event.data);
worker.onerror = (event) => {
  if (document.documentElement.dataset.ready === undefined) {
    const why = event.message || "it could not be loaded";
    say("open", "Nothing can be checked here", `This page's worker failed: ${why}.`);
  }
};
keyField.value = kept();
keyField.addEventListener("change", () => check(null));
forgetful(element("file"));
element("file").addEventListener("change", (event) => {
  const file = (event.target as HTMLInputElement).files?.[0];
  if (file !== undefined) take(file);
});
element("paste").addEventListener("click", () => {
  const text = element<HTMLTextAreaElement>("pasted").value;
  element("chosen").textContent = "What was pasted";
  check(new Blob([text]));
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});
addEventListener("dragleave", () => element("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  if (event.dataTransfer !== null) dropped(event.dataTransfer.files);
});
