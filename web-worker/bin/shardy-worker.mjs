#!/usr/bin/env node
/** Starts the built worker; says what is missing where it can't. */
import { existsSync } from "node:fs";

const built = new URL("../dist/shardy-worker.mjs", import.meta.url);
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (!("bun" in process.versions) && (major < 20 || (major === 20 && minor < 19))) {
  process.stderr.write(`error: Node.js 20.19 or newer is needed; this is ${process.versions.node}\n`);
  process.exit(1);
}
if (!existsSync(built)) {
  process.stderr.write("error: the worker is not built; run npm ci && npm run build:cli in web-worker/\n");
  process.exit(1);
}
await import(built.href);
