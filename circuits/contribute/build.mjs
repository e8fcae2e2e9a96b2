// SPDX-License-Identifier: GPL-3.0-only
//
// `npm run page`: the contributors' page in circuits/build/contribute/. Nothing is bundled: the page's own files, and
// those of snarkjs and @noble/hashes as their packages hold them, so that anybody can compare them.
import * as fs from 'node:fs';

const circuits = new URL('../', import.meta.url);
const out = new URL('build/contribute/', circuits);
const hashes = 'node_modules/@noble/hashes/';

fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(new URL('hashes/', out), { recursive: true });
const copy = (from, to) => fs.copyFileSync(new URL(from, circuits), new URL(to, out));

for (const name of ['index.html', 'page.css', 'page.js', 'steps.js', 'toil.js']) copy(`contribute/${name}`, name);
copy('contributions.mjs', 'contributions.js');
copy('LICENSE', 'LICENSE.txt');
copy('node_modules/snarkjs/build/snarkjs.min.js', 'snarkjs.min.js');
copy(`${hashes}LICENSE`, 'hashes/LICENSE.txt');
for (const name of ['_blake', '_md', '_u64', 'blake2', 'blake3', 'crypto', 'utils']) {
  // one import there is by the package's name, which browsers do not look up
  const text = fs.readFileSync(new URL(`${hashes}esm/${name}.js`, circuits), 'utf8');
  fs.writeFileSync(new URL(`hashes/${name}.js`, out), text.replace("'@noble/hashes/crypto'", "'./crypto.js'"));
}
console.log(`the page lies in ${out.pathname}`);
