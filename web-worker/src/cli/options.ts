/** The command line and the environment as settings. Pure. */
import { parseArgs } from "node:util";
import type { Backends } from "../core/compute.ts";

export const DEFAULT_URL = "http://127.0.0.1:8765";
export const MEMORY_MIB_MIN = 64;
/** The engine's memory is 32-bit. */
export const MEMORY_MIB_MAX = 4096;

/** Wrong usage; the message is one line that says what to change. */
export class UsageError extends Error {}

export type Options = {
  mesh: string;
  /** Null: the key's default place. */
  keyFile: string | null;
  ephemeral: boolean;
  name: string;
  /** Null: half of what is free. */
  memoryMib: number | null;
  backend: Backends;
  quiet: boolean;
  json: boolean;
};

export const HELP = `Usage: shardy-worker [options]

Join a mesh and compute for it until Ctrl-C, which gives unfinished work back. Every result is signed with this
worker's key, and what the mesh has verified is credited to that key.

Options:
  --url URL          where the mesh is (SHARDY_URL, else ${DEFAULT_URL})
  --key FILE         this worker's identity, made if missing; workers on one machine need one each
  --ephemeral        an identity that is gone afterwards, and in no file
  --name NAME        name shown in lists
  --memory-mib N     most memory to use, in MiB (half of what is free, at most 1024)
  --backend NAME     wasm (processor), webgpu where this runtime has it, or auto: the faster of the two
  -q, --quiet        say only what went wrong
  --json             one JSON object a line on standard output for each change of the status
  -h, --help         show this
  --version          show the version

For jobs whose results are to be proved it uses a second core and half of the memory, and keeps proving keys in the
user's cache folder, at most 512 MiB.

One process computes on one core; start several, each with a key of its own, to use more. A mesh that does not answer
five times in a row is given up, unless it has answered before.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 mesh not reached, 4 mesh refused.
`;

const FLAGS = {
  url: { type: "string" },
  key: { type: "string" },
  ephemeral: { type: "boolean" },
  name: { type: "string" },
  "memory-mib": { type: "string" },
  backend: { type: "string" },
  quiet: { type: "boolean", short: "q" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

/** What is asked for. UsageError where it makes no sense. */
export function optionsFrom(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Options | "help" | "version" {
  const values = parsed(args);
  if (values.help === true) return "help";
  if (values.version === true) return "version";
  if (values.key !== undefined && values.ephemeral === true) {
    throw new UsageError("--key and --ephemeral exclude each other; give one of them");
  }
  if (values.key === "") throw new UsageError("--key names no file");
  return {
    mesh: meshOf(values.url ?? (env.SHARDY_URL || DEFAULT_URL)),
    keyFile: values.key ?? null,
    ephemeral: values.ephemeral === true,
    name: (values.name ?? "").replace(/\p{Cc}/gu, "").trim(),
    memoryMib: values["memory-mib"] === undefined ? null : memoryOf(values["memory-mib"]),
    backend: backendOf(values.backend ?? "auto"),
    quiet: values.quiet === true,
    json: values.json === true,
  };
}

function parsed(args: readonly string[]): ReturnType<typeof parseArgs<{ options: typeof FLAGS }>>["values"] {
  try {
    return parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: false }).values;
  } catch (error) {
    const [first = "wrong usage"] = (error instanceof Error ? error.message : String(error)).split("\n");
    throw new UsageError(`${first.replace(/\.? To specify .*/, "").replace(/\.$/, "")}; --help lists the options`);
  }
}

const SCHEMES: Readonly<Record<string, string>> = {
  "http:": "http",
  "https:": "https",
  "ws:": "http",
  "wss:": "https",
};

/** http(s)://host of a mesh that is named like that, by ws(s)://, or without a scheme. */
export function meshOf(text: string): string {
  let url: URL | null = null;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    // Told below.
  }
  const scheme = SCHEMES[url?.protocol ?? ""];
  if (url === null || scheme === undefined || url.host === "") {
    throw new UsageError(`${JSON.stringify(text)} is no address of a mesh; expected something like ${DEFAULT_URL}`);
  }
  return `${scheme}://${url.host}${url.pathname.replace(/\/+$/, "")}`;
}

function memoryOf(text: string): number {
  const mib = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (mib < MEMORY_MIB_MIN || mib > MEMORY_MIB_MAX) {
    throw new UsageError(`--memory-mib is ${text}; ${MEMORY_MIB_MIN} to ${MEMORY_MIB_MAX} are possible`);
  }
  return mib;
}

function backendOf(text: string): Backends {
  if (text === "auto" || text === "wasm" || text === "webgpu") return text;
  // As the native worker calls it.
  if (text === "gpu") return "webgpu";
  throw new UsageError(`--backend is ${JSON.stringify(text)}; auto, wasm and webgpu are possible`);
}
