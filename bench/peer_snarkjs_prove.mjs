// Median of snarkjs's prover, witness and all, in one warm process:
// node peer_snarkjs_prove.mjs SNARKJS INPUTS CALCULATOR ZKEY COUNT
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { createRequire } from "node:module";

const [where, inputs, calculator, zkey, count] = process.argv.slice(2);
const snarkjs = createRequire(where)("snarkjs");
const given = JSON.parse(readFileSync(inputs, "utf8"));
const [program, key] = [calculator, zkey].map((path) => new Uint8Array(readFileSync(path)));
const times = [];
for (let turn = 0; turn <= Number(count); turn++) {
  const start = performance.now();
  const { publicSignals } = await snarkjs.groth16.fullProve(given, program, key);
  if (publicSignals[0] !== given.context) throw new Error("snarkjs proves something else");
  if (turn > 0) times.push((performance.now() - start) / 1000);
}
times.sort((a, b) => a - b);
console.log(JSON.stringify({ p50_s: times[times.length >> 1] }));
process.exit(0);
