/** Proving keys in a folder, for Node and Bun: a file for each, which is whole or not there. */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { KeyStore } from "./keys.ts";

const NAME = /^([0-9a-f]{64})\.gz$/;
const PART = /\.part$/;
/** What a process that ended in the middle of writing left behind is removed after this long. */
const PART_MS = 3_600_000;

export function folderStore(folder: string): KeyStore {
  const pathOf = (digest: string): string => join(folder, `${digest}.gz`);
  return {
    async get(digest) {
      try {
        return new Blob([await readFile(pathOf(digest))]);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
        throw error;
      }
    },
    async put(digest, file) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const part = join(folder, `${digest}.${process.pid}.part`);
      try {
        await writeFile(part, new Uint8Array(await file.arrayBuffer()));
        await rename(part, pathOf(digest));
      } finally {
        await rm(part, { force: true });
      }
    },
    async delete(digest) {
      await rm(pathOf(digest), { force: true });
    },
    async list() {
      const names = await readdir(folder).catch(() => []);
      const found: { digest: string; bytes: number; at: number }[] = [];
      for (const name of names) {
        const entry = await stat(join(folder, name)).catch(() => null);
        const digest = NAME.exec(name)?.[1];
        if (entry === null) continue;
        if (digest !== undefined) found.push({ digest, bytes: entry.size, at: entry.mtimeMs });
        else if (PART.test(name) && Date.now() - entry.mtimeMs > PART_MS) await rm(join(folder, name), { force: true });
      }
      return found.sort((one, other) => one.at - other.at).map(({ digest, bytes }) => ({ digest, bytes }));
    },
  };
}
