// Median and 99th percentile of snarkjs's verifier in one warm process:
// node peer_snarkjs.mjs SNARKJS VKEY PUBLIC PROOF COUNT
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { createRequire } from "node:module";

const [where, vkey, publics, proof, count] = process.argv.slice(2);
const snarkjs = createRequire(where)("snarkjs");
const [key, signals, made] = [vkey, publics, proof].map((path) => readFileSync(path, "utf8"));
const times = [];
for (let turn = 0; turn < Number(count) + 5; turn++) {
  const start = performance.now();
  const right = await snarkjs.groth16.verify(JSON.parse(key), JSON.parse(signals), JSON.parse(made));
  if (!right) throw new Error("snarkjs refuses the proof");
  if (turn >= 5) times.push(performance.now() - start);
}
times.sort((a, b) => a - b);
console.log(JSON.stringify({ p50: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] }));
process.exit(0);
