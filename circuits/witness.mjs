// SPDX-License-Identifier: GPL-3.0-only
// node witness.mjs FOLDER INPUTS.json OUT
//
// Witnesses of a compiled circuit (FOLDER as build.py leaves it). INPUTS.json is a list of the circuit's inputs, as
// {context, length, a, b, c}; of the i-th one comes OUT/i.wtns, or OUT/i.error with words where an assertion failed.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const [folder, inputs, out] = process.argv.slice(2);
if (!out) {
  console.error('usage: node witness.mjs FOLDER INPUTS.json OUT');
  process.exit(2);
}
const build = createRequire(import.meta.url)(resolve(folder, 'witness_calculator.cjs'));
const wasm = readFileSync(join(folder, readdirSync(folder).find((name) => name.endsWith('.wasm'))));
for (const [index, input] of JSON.parse(readFileSync(inputs, 'utf8')).entries()) {
  try {
    // A calculator that threw once is not used again: its memory holds what was half done.
    const calculator = await build(wasm);
    writeFileSync(join(out, `${index}.wtns`), await calculator.calculateWTNSBin(input, 0));
  } catch (problem) {
    writeFileSync(join(out, `${index}.error`), String(problem.message ?? problem));
  }
}
