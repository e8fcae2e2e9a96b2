/**
 * node driver.mjs ENGINE.wasm PROVER.wasm CASES OUT: checks each receipt of CASES, a JSON document a line, and writes a
 * report a line. What tests/verify compares with the answers in Python.
 */
import { createReadStream, createWriteStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Engine } from "../../src/engine/engine.ts";
import { ProverModule } from "../../src/prove/module.ts";
import { Subject } from "../../src/verify/arrays.ts";
import { check } from "../../src/verify/check.ts";
import type { Host } from "../../src/verify/host.ts";
import { readNpy } from "../../src/verify/npy.ts";
import type { Report } from "../../src/verify/report.ts";

/** In base64: the receipt's bytes, and .npy files by name. */
type Case = { receipt: string; mesh_keys: string[] | null; arrays?: Record<string, string> };

const told = (report: Report): unknown => ({
  problems: report.problems,
  vouched: report.vouched,
  type: report.type,
  mesh: report.mesh,
  job: report.job,
  key: report.key,
  tasks: report.tasks,
  ops: String(report.ops),
  workers: Object.fromEntries(report.workers),
  methods: Object.fromEntries(report.methods),
  signed: report.signed,
  unsigned: report.unsigned,
  proofs: report.proofs,
  development: report.development,
});

async function compared(receipt: Uint8Array, files: Record<string, string>): Promise<unknown> {
  const arrays = Object.entries(files).map(([name, file]) => {
    return [name, readNpy(new Uint8Array(Buffer.from(file, "base64")))] as const;
  });
  const { problems, differing, tiles, operands, proofs } = await new Subject(receipt).compare(new Map(arrays), host);
  return { problems, differing: differing.map(({ task, tile }) => [task, tile]), tiles, operands, proofs };
}

const [enginePath, proverPath, casesPath, outPath] = process.argv.slice(2) as [string, string, string, string];
let module: ProverModule | null = null;
const host: Host = {
  engine: await Engine.load(readFileSync(enginePath)),
  subtle: crypto.subtle,
  proofs: async () => (module ??= await ProverModule.load(readFileSync(proverPath))),
};
const out = createWriteStream(outPath);
for await (const line of createInterface({ input: createReadStream(casesPath) })) {
  const { receipt, mesh_keys, arrays } = JSON.parse(line) as Case;
  const bytes = Buffer.from(receipt, "base64");
  const report = told(await check(bytes, host, { meshKeys: mesh_keys }));
  out.write(`${JSON.stringify({ report, arrays: arrays === undefined ? null : await compared(bytes, arrays) })}\n`);
}
out.end();
