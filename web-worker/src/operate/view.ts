/** Tables of the page, as elements. Everything is put in as text: names and reasons come from others. */
import { type Circuit, moment, type Row } from "./versions.ts";

export type Chosen = (what: "rotate" | "revoke", circuit: string, version: string) => void;

/** As `GET /v1/ceremonies` lists them. */
export type Run = {
  circuit: string;
  run: number;
  state: string;
  contributions: number;
  powers: string | null;
  started_ms: number;
};

export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  text = "",
  attributes: Record<string, string> = {},
  ...children: Node[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function table(caption: string, columns: string[], rows: HTMLTableRowElement[]): HTMLElement {
  const head = element("tr", "", {}, ...columns.map((column) => element("th", column, { scope: "col" })));
  const made = element(
    "table",
    "",
    {},
    element("caption", caption),
    element("thead", "", {}, head),
    element("tbody", "", {}, ...rows),
  );
  return element("div", "", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, made);
}

function versionRow(circuit: Circuit, row: Row, chosen: Chosen): HTMLTableRowElement {
  const button = (what: "rotate" | "revoke", text: string): HTMLButtonElement => {
    const made = element("button", text, {
      type: "button",
      class: what === "revoke" ? "small danger" : "small",
      "aria-label": `${text} ${row.version}`,
      id: `${what}-${circuit.name}-${row.version}`,
    });
    made.addEventListener("click", () => chosen(what, circuit.name, row.version));
    return made;
  };
  const actions = element("td", "", { class: "actions" });
  if (row.canRotate) actions.append(button("rotate", "Rotate to"));
  if (row.canRevoke) actions.append(button("revoke", "Revoke"));
  return element(
    "tr",
    "",
    { "data-version": row.version },
    element("th", row.version, { scope: "row" }),
    element(
      "td",
      "",
      {},
      element("span", row.status, { class: `status ${row.status}` }),
      element("span", row.note, { class: "note" }),
    ),
    element("td", "", {}, ...row.marks.map((mark) => element("span", mark, { class: "mark" }))),
    element("td", "", { "data-column": "key" }, element("code", row.hash.slice(0, 12), { title: row.hash })),
    element("td", row.registered, { class: "when", "data-column": "registered (UTC)" }),
    actions,
  );
}

export function versionsView(circuits: Circuit[], chosen: Chosen): Node[] {
  if (circuits.length === 0) {
    return [
      element("p", "No version is registered. For a trial on one machine, in a terminal: ", { class: "empty" },
        element("code", "shardy verifiers register circuits/build/v2-32x32x32 --version trial-1")), // prettier-ignore
    ];
  }
  const columns = ["version", "status", "kind", "key", "registered (UTC)", "actions"];
  return circuits.map((circuit) =>
    table(
      circuit.name.includes(circuit.shape.replaceAll("×", "x")) ? circuit.name : `${circuit.name} (${circuit.shape})`,
      columns,
      circuit.rows.map((row) => versionRow(circuit, row, chosen)),
    ),
  );
}

/** New notes into rows that stand there, so that nothing moves and no button loses its focus. */
export function renewNotes(root: HTMLElement, circuits: Circuit[]): void {
  const notes = new Map(circuits.flatMap(({ rows }) => rows.map(({ version, note }) => [version, note] as const)));
  for (const row of root.querySelectorAll<HTMLElement>("[data-version]")) {
    const note = row.querySelector(".note");
    const now = notes.get(row.dataset["version"] ?? "") ?? "";
    if (note !== null && note.textContent !== now) note.textContent = now;
  }
}

export function runsView(runs: Run[]): Node[] {
  if (runs.length === 0) {
    return [
      element("p", "No ceremony was started. ", { class: "empty" },
        element("code", "shardy ceremony start CIRCUIT --ptau FILE")), // prettier-ignore
    ];
  }
  const rows = runs.map((run) =>
    element(
      "tr",
      "",
      {},
      element("th", run.circuit, { scope: "row" }),
      element("td", `${run.run}`, { "data-column": "run" }),
      element("td", run.state),
      element("td", `${run.contributions}`, { "data-column": "contributions" }),
      element("td", run.powers ?? "not published", { "data-column": "powers" }),
      element("td", moment(run.started_ms), { class: "when", "data-column": "started (UTC)" }),
    ),
  );
  return [table("Newest runs", ["circuit", "run", "state", "contributions", "powers", "started (UTC)"], rows)];
}
