// SPDX-License-Identifier: GPL-3.0-only
// node circuits/witness.mjs CALCULATOR.js CIRCUIT.wasm OUT_FOLDER < INPUTS.json
//
// INPUTS.json is a list of inputs (shardy_common/proofs/signals.py: Witness.as_json); witness i goes to OUT_FOLDER/i.wtns.
// An input that the circuit's calculator refuses leaves no file; its place in the list printed at the end says why.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [calculator, wasm, folder] = process.argv.slice(2).map((path) => resolve(path));
const build = createRequire(import.meta.url)(calculator);
const circuit = await build(readFileSync(wasm));
const refusals = [];
for (const [index, input] of JSON.parse(readFileSync(0, "utf8")).entries()) {
  try {
    writeFileSync(resolve(folder, `${index}.wtns`), await circuit.calculateWTNSBin(input, 0));
    refusals.push(null);
  } catch (problem) {
    refusals.push(String(problem.message ?? problem));
  }
}
console.log(JSON.stringify(refusals));
