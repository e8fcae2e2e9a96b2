import { createPrivateKey, createPublicKey, sign as nodeSign, verify as nodeVerify } from "node:crypto";
import { blake3 } from "@noble/hashes/blake3.js";
import { beforeAll, describe, expect, it } from "vitest";
import { identityFrom, resultsMessage, sign } from "../src/core/identity.ts";
import { type Hash, leafOf, rootOf } from "../src/core/merkle.ts";
import { fromHex, loadEngine, readJson, toHex } from "./vectors.ts";

type Entry = { lease: string; digest: string; len: number };
type Signed = { name: string; results: Entry[]; leaves: string[] | null; root: string; message: string; sig: string };
type Refused = { name: string; results: Entry[]; sig: string };

const vectors = readJson("vectors/results.json") as { seed: string; key: string; frames: Signed[]; refused: Refused[] };

/** RFC 8410: an Ed25519 seed as PKCS 8, a public key as SPKI. */
const pkcs8 = Buffer.from(`302e020100300506032b657004220420${vectors.seed}`, "hex");
const spki = Buffer.from(`302a300506032b6570032100${vectors.key}`, "hex");
const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });

let hash: Hash;
beforeAll(async () => {
  const engine = await loadEngine();
  hash = (bytes) => engine.hashBytes(bytes);
});

const leavesOf = (results: readonly Entry[]): Uint8Array[] =>
  results.map((r) => leafOf(hash, r.lease, fromHex(r.digest), r.len));
const messageOf = (results: readonly Entry[]): Uint8Array<ArrayBuffer> =>
  resultsMessage(rootOf(hash, leavesOf(results)));

/** As RFC 9162 §2.1 defines it, with another implementation of the hash. */
function recursiveRoot(leaves: Uint8Array[]): Uint8Array {
  const [only] = leaves;
  if (only === undefined) throw new Error("no leaves");
  if (leaves.length === 1) return only;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  const [left, right] = [recursiveRoot(leaves.slice(0, split)), recursiveRoot(leaves.slice(split))];
  return blake3(new Uint8Array([1, ...left, ...right]));
}

describe("the tree of results", () => {
  it.each([1, 2, 3, 4, 5, 7, 8, 9, 511, 512])("over %i leaves has the recursive root", (n) => {
    const leaves = Array.from({ length: n }, (_, i) => blake3(new Uint8Array([i & 255, i >> 8])));
    expect(toHex(rootOf(hash, leaves))).toBe(toHex(recursiveRoot(leaves)));
  });

  it("keeps the leaves that it is given", () => {
    const leaves = Array.from({ length: 5 }, (_, i) => blake3(new Uint8Array([i])));
    const before = leaves.map(toHex);
    rootOf(hash, leaves);
    expect(leaves.map(toHex)).toEqual(before);
  });

  it("refuses no leaves, and what is no digest", () => {
    expect(() => rootOf(hash, [])).toThrow(RangeError);
    expect(() => leafOf(hash, "l", new Uint8Array(31), 1)).toThrow(RangeError);
    expect(() => leafOf(hash, "l", new Uint8Array(33), 1)).toThrow(RangeError);
  });

  it("changes with each bit of a leaf", () => {
    const leaves = Array.from({ length: 3 }, (_, i) => blake3(new Uint8Array([i])));
    const root = toHex(rootOf(hash, leaves));
    for (const at of [0, 1, 2]) {
      const changed = leaves.map((leaf) => leaf.slice());
      const leaf = changed[at] as Uint8Array;
      leaf[31] = (leaf[31] ?? 0) ^ 0x80;
      expect(toHex(rootOf(hash, changed))).not.toBe(root);
    }
  });
});

describe("signed results", () => {
  it.each(vectors.frames)("$name: leaves, root and message", ({ results, leaves, root, message }) => {
    const made = leavesOf(results);
    if (leaves !== null) expect(made.map(toHex)).toEqual(leaves);
    expect(toHex(rootOf(hash, made))).toBe(root);
    expect(toHex(messageOf(results))).toBe(message);
  });

  it.each(vectors.frames)("$name: the signature, by a key that nobody can read out", async ({ results, sig }) => {
    const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, false, ["sign"]);
    const who = { publicKey: fromHex(vectors.key), privateKey };
    const message = messageOf(results);
    const made = await sign(who, message, crypto.subtle);
    expect(toHex(made)).toBe(sig);
    expect(nodeVerify(null, message, publicKey, made)).toBe(true);
    expect(toHex(nodeSign(null, message, createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" })))).toBe(sig);
  });

  it.each(vectors.refused)("refused: $name", ({ results, sig }) => {
    expect(nodeVerify(null, messageOf(results), publicKey, fromHex(sig))).toBe(false);
  });

  it("are signed by a fresh identity that verifies elsewhere", async () => {
    let saved: CryptoKeyPair | null = null;
    const store = { load: () => Promise.resolve(null), save: (pair: CryptoKeyPair) => void (saved = pair) };
    const who = await identityFrom({ ...store, save: async (pair) => store.save(pair) }, crypto.subtle);
    expect(who.privateKey.extractable).toBe(false);
    expect(saved).not.toBeNull();
    const key = createPublicKey({
      key: Buffer.from(`302a300506032b6570032100${toHex(who.publicKey)}`, "hex"),
      format: "der",
      type: "spki",
    });
    const message = messageOf([{ lease: "l-1", digest: "ab".repeat(32), len: 4 }]);
    const sig = await sign(who, message, crypto.subtle);
    expect(nodeVerify(null, message, key, sig)).toBe(true);
    for (const bit of [0, 255, 511]) {
      const wrong = sig.slice();
      wrong[bit >> 3] = (wrong[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(nodeVerify(null, message, key, wrong)).toBe(false);
    }
    const other = message.slice();
    other[other.length - 1] = (other.at(-1) ?? 0) ^ 1;
    expect(nodeVerify(null, other, key, sig)).toBe(false);
  });
});
