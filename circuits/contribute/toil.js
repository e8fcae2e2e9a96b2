// SPDX-License-Identifier: GPL-3.0-only
//
// The worker that contributes: one for each contribution, ended by the page as soon as it has answered. Whatever knew
// the randomness, snarkjs's own memory included, ends with it.
//
// in: {base: ArrayBuffer, digest: its BLAKE3, name, moves: ArrayBuffer of what the mouse gave}
// out: {listed: contributions of the base}, then {zkey: ArrayBuffer, digest, hash}; or {problem}
importScripts('snarkjs.min.js');

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

async function toil({ base, digest, name, moves }) {
  const [{ blake3 }, { ceremonySection, contributionsIn }] = await Promise.all([
    import('./hashes/blake3.js'),
    import('./contributions.js'),
  ]);
  const listed = (key) => contributionsIn(ceremonySection((at, length) => key.subarray(at, at + length)));
  const from = new Uint8Array(base);
  if (hex(blake3(from)) !== digest) throw new Error('the mesh sent other bytes than those of the newest key');
  postMessage({ listed: listed(from) });

  const seed = new Uint8Array(64 + moves.byteLength);
  crypto.getRandomValues(seed.subarray(0, 64));
  seed.set(new Uint8Array(moves), 64);
  const mixed = new Uint8Array(await crypto.subtle.digest('SHA-512', seed));
  const made = { type: 'mem' };
  try {
    // snarkjs adds random bytes of its own
    await snarkjs.zKey.contribute({ type: 'mem', data: from }, made, name, hex(mixed));
  } finally {
    for (const bytes of [seed, mixed, new Uint8Array(moves)]) bytes.fill(0);
  }
  const zkey = made.data.slice();
  const hash = listed(zkey).at(-1).transcript;
  postMessage({ zkey: zkey.buffer, digest: hex(blake3(zkey)), hash }, [zkey.buffer]);
}

onmessage = ({ data }) => toil(data).catch((problem) => postMessage({ problem: String(problem.message ?? problem) }));
