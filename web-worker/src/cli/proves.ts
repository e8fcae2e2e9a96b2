/** Proofs in Node and Bun: the prover's module is in this one file, and keys are kept in the user's cache folder. */
import { homedir, platform } from "node:os";
import { join } from "node:path";
import proverData from "../../../libs/shardy_common/proofs/prover.wasm?inline";
import type { Proves } from "../core/proofs.ts";
import { folderStore } from "../prove/folderstore.ts";
import { threadHost } from "../prove/threads.ts";

/** As many as the native worker's threads: the machine is somebody's. */
const INSTANCES = 2;

type Env = Readonly<Record<string, string | undefined>>;

/** In the platform's folder for what can be had again; the native worker's keys lie there too. */
export function keysFolder(env: Env, os: string = platform()): string {
  const home = homedir();
  const base =
    os === "win32"
      ? env.LOCALAPPDATA || join(home, "AppData", "Local")
      : os === "darwin"
        ? join(home, "Library", "Caches")
        : env.XDG_CACHE_HOME || join(home, ".cache");
  return join(base, "shardy", "proving-keys");
}

/** file: the program, which its threads run again. */
export const provesOf = (file: URL, env: Env): Proves => ({
  // Decoded for the first proof only: most of the time of a start would go into it.
  host: () => Promise.resolve(threadHost(Buffer.from(proverData.slice(proverData.indexOf(",") + 1), "base64"), file)),
  store: folderStore(keysFolder(env)),
  instances: INSTANCES,
});
