/** The operators' page: signing in, sections, and what is done in them. */
import { Api, Problem } from "./api.ts";
import { type Circuit, circuitsOf, graceSeconds, revocationWords, rotationWords, type Version } from "./versions.ts";
import { type Run, renewNotes, runsView, versionsView } from "./view.ts";

const KEPT = "shardy-operator-key";
const LOOK_MS = 3_000;
const LOOK_MS_MAX = 30_000;
const SECTIONS = ["verifiers", "ceremonies"] as const;
type Section = (typeof SECTIONS)[number];

const at = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const outcome = at("outcome");
const connection = at("connection");

class Page {
  #versions: Version[] = [];
  #shown = "";
  #timer = 0;
  #waitMs = LOOK_MS;

  constructor(readonly api: Api) {}

  get section(): Section {
    const named = location.hash.slice(1) as Section;
    return SECTIONS.includes(named) ? named : "verifiers";
  }

  /** Show the section of the address, and look at once. */
  enter(): void {
    for (const name of SECTIONS) at(name).hidden = name !== this.section;
    for (const link of at("sections").querySelectorAll("a")) {
      if (link.hash === `#${this.section}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.#shown = "";
    void this.look();
  }

  /** Read anew, and again after a while, unless nobody sees it. */
  async look(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      if (this.section === "verifiers") {
        this.#versions = await this.api.all<Version>("verifiers", "verifiers");
        this.#draw();
      } else {
        const runs = await this.api.all<Run>("ceremonies", "ceremonies");
        this.#replace(at("runs"), JSON.stringify(runs), () => runsView(runs));
      }
      connection.hidden = true;
      this.#waitMs = LOOK_MS;
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem(0, String(error));
      if (problem.status === 401 || problem.status === 403) {
        signOut(problem.message);
        return;
      }
      connection.textContent = `${problem.message} What you see is as it was; this page goes on trying.`;
      connection.hidden = false;
      this.#waitMs = Math.min(2 * this.#waitMs, LOOK_MS_MAX);
    }
    this.#again();
  }

  /** Times that pass, without asking anybody. */
  tick(): void {
    if (this.section === "verifiers") renewNotes(at("circuits"), circuitsOf(this.#versions, this.api.now()));
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #again(): void {
    clearTimeout(this.#timer);
    if (document.hidden || page !== this) return;
    this.#timer = window.setTimeout(() => void this.look(), this.#waitMs);
  }

  #draw(): void {
    const circuits = circuitsOf(this.#versions, this.api.now());
    this.#replace(at("circuits"), JSON.stringify(this.#versions), () =>
      versionsView(circuits, (what, name, version) => {
        const circuit = circuitsOf(this.#versions, this.api.now()).find((one) => one.name === name);
        if (circuit) (what === "rotate" ? askRotation : askRevocation)(this, circuit, version);
      }),
    );
    renewNotes(at("circuits"), circuits);
  }

  /** Put new elements in only where something changed; the focus stays on what has the same id. */
  #replace(root: HTMLElement, state: string, make: () => Node[]): void {
    if (state === this.#shown) return;
    this.#shown = state;
    const focused = root.contains(document.activeElement) ? document.activeElement?.id : "";
    root.replaceChildren(...make());
    if (focused) document.getElementById(focused)?.focus();
  }

  /** A change, told in words; what the log says is shown whether it was done or refused. */
  async change(path: string, body: object, done: string): Promise<void> {
    tell("");
    try {
      await this.api.call(path, body);
      tell(done);
    } catch (error) {
      tell(`Nothing was changed. ${error instanceof Error ? error.message : String(error)}`, true);
    }
    await this.look();
  }
}

function tell(text: string, wrong = false): void {
  outcome.textContent = text;
  outcome.classList.toggle("error", wrong);
}

function ask(id: "rotate" | "revoke", agreed: () => string | void): void {
  const dialog = at<HTMLDialogElement>(id);
  const form = dialog.querySelector("form") as HTMLFormElement;
  form.onsubmit = (event) => {
    // What is refused here keeps the dialog open.
    if (agreed() !== undefined) event.preventDefault();
  };
  dialog.showModal();
}

function askRotation(shown: Page, circuit: Circuit, version: string): void {
  at("rotate-title").textContent = `Rotate ${circuit.name} to ${version}?`;
  at("rotate-text").textContent = rotationWords(circuit, version);
  const grace = at<HTMLInputElement>("grace");
  grace.disabled = circuit.active === "";
  at("grace-said").textContent = "";
  ask("rotate", () => {
    const seconds = graceSeconds(grace.value);
    if (seconds === null) {
      grace.focus();
      return (at("grace-said").textContent = "Write it as 90s, 10m, 2h or 1d.");
    }
    const body = { circuit: circuit.name, version, grace_s: seconds };
    void shown.change("verifiers/rotate", body, `${version} is the active version of ${circuit.name}.`);
    return undefined;
  });
}

function askRevocation(shown: Page, circuit: Circuit, version: string): void {
  at("revoke-title").textContent = `Revoke ${version}?`;
  at("revoke-text").textContent = revocationWords(circuit, version);
  const [why, confirm, successor] = [
    at<HTMLInputElement>("why"),
    at<HTMLInputElement>("confirm"),
    at<HTMLSelectElement>("successor"),
  ];
  why.value = confirm.value = at("confirm-said").textContent = "";
  const others = circuit.rows.filter((row) => row.canRotate && row.version !== version).map((row) => row.version);
  successor.replaceChildren(new Option("none", ""), ...others.map((other) => new Option(other, other)));
  at("successor-field").hidden = circuit.active !== version;
  ask("revoke", () => {
    if (confirm.value.trim() !== version) {
      confirm.focus();
      return (at("confirm-said").textContent = `This is not ${version}.`);
    }
    const chosen = circuit.active === version && successor.value ? { successor: successor.value } : {};
    void shown.change("verifiers/revoke", { version, why: why.value, ...chosen }, `${version} is revoked.`);
    return undefined;
  });
}

let page: Page | null = null;

async function signIn(key: string): Promise<void> {
  const said = at("sign-in-said");
  said.textContent = "";
  try {
    const api = new Api(key);
    await api.call("verifiers?limit=1");
    sessionStorage.setItem(KEPT, key);
    at("sign-in").hidden = true;
    at("sections").hidden = at("sign-out").hidden = false;
    page = new Page(api);
    page.enter();
  } catch (error) {
    at("sign-in").hidden = false;
    said.textContent = error instanceof Error ? error.message : String(error);
    at("key").focus();
  }
}

function signOut(why = ""): void {
  sessionStorage.removeItem(KEPT);
  page?.stop();
  page = null;
  for (const name of SECTIONS) at(name).hidden = true;
  for (const open of document.querySelectorAll("dialog[open]")) (open as HTMLDialogElement).close();
  at("sections").hidden = at("sign-out").hidden = connection.hidden = true;
  tell("");
  at("sign-in").hidden = false;
  at<HTMLInputElement>("key").value = "";
  at("sign-in-said").textContent = why;
  at("key").focus();
}

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  void signIn(at<HTMLInputElement>("key").value.trim());
});
at("sign-out").addEventListener("click", () => signOut());
for (const button of document.querySelectorAll<HTMLElement>("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
window.addEventListener("hashchange", () => page?.enter());
document.addEventListener("visibilitychange", () => document.hidden || void page?.look());
setInterval(() => document.hidden || page?.tick(), 1_000);

const kept = sessionStorage.getItem(KEPT);
if (kept === null) at("sign-in").hidden = false;
else void signIn(kept);
