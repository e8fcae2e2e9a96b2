// SPDX-License-Identifier: GPL-3.0-only
//
// The second phase of a Groth16 set-up: keys whose randomness nobody holds, as long as one contributor was honest.
//
//   digest     POWERS.ptau                             their BLAKE2b-512, and under which name they were published
//   powers     POWERS.ptau                             check powers of tau (long; once for all circuits)
//   start      CIRCUIT.r1cs POWERS.ptau OUT.zkey       the key before anybody contributed
//   contribute IN.zkey OUT.zkey NAME                   mix in this machine's randomness, which is then forgotten
//   beacon     IN.zkey OUT.zkey HEX [ITERATIONS]       the last step: public randomness from after all contributions
//   list       KEY.zkey                                who contributed so far, as the key itself says
//   check      CIRCUIT.r1cs POWERS.ptau KEY.zkey       whether a key, at any step, follows from what it says
//   verify     CIRCUIT.r1cs POWERS.ptau FINAL.zkey [TRANSCRIPT.json]   anybody, at any time; writes what was found
//   export     FINAL.zkey VERIFICATION_KEY.json
//
// `shardy ceremony` calls these steps, and keeps their transcript in the log of a mesh (docs/ceremony.md).
//
// `verify` demands three contributions of people under different names and, as the last one, a beacon. What it cannot
// see: whether contributors are different people and forgot their randomness, and whether the beacon was announced
// before it was known. Names are what a file says: nothing ties them to a contribution, so whoever contributed looks
// for the transcript value that its own step printed. ITERATIONS: the beacon is hashed 2^ITERATIONS times, 10 by
// default. The exit status says whether all is well: 0 yes, 1 refused, 2 not understood.
import { createHash, randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { pathToFileURL } from 'node:url';
import { powersOfTau, zKey } from 'snarkjs';
import { ceremonySection, contributionsIn, Malformed } from './contributions.mjs';

const CONTRIBUTIONS_MIN = 3;
const READ_BYTES_MAX = 2 << 20;

class Refused extends Error {}

const quiet = { debug() {}, info() {}, warn: console.error, error: console.error };

/** The digest of a file of any size, in hex. */
export async function digestOf(path, algorithm = 'sha256') {
  const hash = createHash(algorithm);
  for await (const part of fs.createReadStream(path)) hash.update(part);
  return hash.digest('hex');
}

/** Who contributed, as a key says (contributions.mjs); the file may be larger than memory. */
export function contributionsOf(path) {
  const file = fs.openSync(path, 'r');
  const read = (at, length) => {
    const bytes = Buffer.alloc(Math.min(length, READ_BYTES_MAX));
    return bytes.subarray(0, fs.readSync(file, bytes, 0, bytes.length, at));
  };
  try {
    return contributionsIn(ceremonySection(read));
  } catch (problem) {
    if (problem instanceof Malformed || problem instanceof RangeError) throw new Refused(`${path}: ${problem.message}`);
    throw problem;
  } finally {
    fs.closeSync(file);
  }
}

/** Why these contributions do not make a key for production; empty where they do. */
export function lacking(contributions) {
  const people = contributions.filter((one) => one.kind === 'person');
  const last = contributions.at(-1);
  const problems = [];
  if (people.length < CONTRIBUTIONS_MIN) {
    problems.push(`${people.length} contributions of people: at least ${CONTRIBUTIONS_MIN} are needed`);
  }
  if (people.some((one) => !one.name)) problems.push('a contribution without a name');
  if (new Set(people.map((one) => one.name)).size < people.length) problems.push('two contributions under one name');
  if (last?.kind !== 'beacon') problems.push('the last step is not a beacon');
  if (contributions.length - people.length > 1) problems.push('more than one beacon');
  return problems;
}

function fresh(path) {
  if (fs.existsSync(path)) throw new Refused(`${path} is there already: a step never writes over another`);
  return path;
}

async function follows(r1cs, ptau, zkey) {
  if ((await zKey.verifyFromR1cs(r1cs, ptau, zkey, quiet)) !== true) {
    throw new Refused(`${zkey} does not follow from ${r1cs} and ${ptau} by these contributions`);
  }
}

const print = (value) => process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);

const steps = {
  async digest(ptau) {
    const known = JSON.parse(fs.readFileSync(new URL('powers.json', import.meta.url), 'utf8')).powers;
    const blake2b = await digestOf(ptau, 'blake2b512');
    print({ blake2b, published: known[blake2b] ?? '' });
  },
  async list(zkey) {
    print({ contributions: contributionsOf(zkey) });
  },
  async check(r1cs, ptau, zkey) {
    const contributions = contributionsOf(zkey);
    await follows(r1cs, ptau, zkey);
    print({ contributions });
  },
  async powers(ptau) {
    if ((await powersOfTau.verify(ptau, quiet)) !== true) throw new Refused(`${ptau} is not what a ceremony leaves`);
    console.log(`${ptau} is consistent; compare its SHA-256 with the published one: ${await digestOf(ptau)}`);
  },
  async start(r1cs, ptau, out) {
    const made = await zKey.newZKey(r1cs, ptau, fresh(out), quiet);
    if (!made || made === -1) {
      fs.rmSync(out, { force: true });
      throw new Refused('no key: the powers are not prepared for phase 2, or too few for this circuit');
    }
  },
  async contribute(from, to, name) {
    if (contributionsOf(from).some((one) => one.kind === 'beacon')) throw new Refused('the beacon was the last step');
    if (!name.trim() || Buffer.byteLength(name) > 64) throw new Refused('a name has 1 to 64 bytes');
    await zKey.contribute(from, fresh(to), name, randomBytes(64).toString('hex'), quiet);
    console.log(`transcript of this contribution, to publish: ${contributionsOf(to).at(-1).transcript}`);
  },
  async beacon(from, to, hex, iterations = '10') {
    if (!/^([0-9a-f]{2}){32,255}$/.test(hex)) throw new Refused('a beacon is 32 to 255 bytes in lower-case hex');
    if (!/^\d{2}$/.test(iterations) || +iterations < 10 || +iterations > 42) {
      throw new Refused('ITERATIONS is 10 to 42');
    }
    const problems = lacking([...contributionsOf(from), { kind: 'beacon' }]);
    if (problems.length) throw new Refused(`too early for the beacon: ${problems.join('; ')}`);
    await zKey.beacon(from, fresh(to), 'beacon', hex, +iterations, quiet);
  },
  async verify(r1cs, ptau, zkey, out = '') {
    const contributions = contributionsOf(zkey);
    const problems = lacking(contributions);
    if (problems.length) throw new Refused(problems.join('; '));
    await follows(r1cs, ptau, zkey);
    const [r1csDigest, ptauDigest, zkeyDigest] = await Promise.all([r1cs, ptau, zkey].map((file) => digestOf(file)));
    const transcript = { r1cs_sha256: r1csDigest, ptau_sha256: ptauDigest, zkey_sha256: zkeyDigest, contributions };
    if (out) fs.writeFileSync(fresh(out), `${JSON.stringify(transcript, null, 2)}\n`);
    else print(transcript);
  },
  async export(zkey, out) {
    const problems = lacking(contributionsOf(zkey));
    if (problems.length) throw new Refused(problems.join('; '));
    fs.writeFileSync(fresh(out), `${JSON.stringify(await zKey.exportVerificationKey(zkey, quiet), null, 1)}\n`);
  },
};
const ARGUMENTS = {
  digest: [1, 1],
  powers: [1, 1],
  start: [3, 3],
  contribute: [3, 3],
  beacon: [3, 4],
  list: [1, 1],
  check: [3, 3],
  verify: [3, 4],
  export: [2, 2],
};

async function main([step, ...words]) {
  const [least, most] = Object.hasOwn(ARGUMENTS, step ?? '') ? ARGUMENTS[step] : [1, 0];
  if (words.length < least || words.length > most) {
    const head = fs.readFileSync(new URL(import.meta.url), 'utf8').split('\n').slice(1, 13);
    console.error(head.map((line) => line.replace(/^\/\/ ?/, '')).join('\n'));
    return 2;
  }
  try {
    await steps[step](...words);
    return 0;
  } catch (problem) {
    console.error(problem instanceof Refused ? problem.message : `${step}: ${problem.message ?? problem}`);
    return 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  // snarkjs leaves threads behind that would keep the process alive.
  process.exit(await main(process.argv.slice(2)));
}
