/**
 * The tree over a frame's results that a worker signs (docs/protocol.md §5.1): that of RFC 9162 §2.1 with BLAKE3. A
 * leaf hashes 00 and what it stands for, a node 01 and its children; n leaves are split at the largest power of two
 * below n.
 */

export type Hash = (bytes: Uint8Array) => Uint8Array<ArrayBuffer>;

const HASH_BYTES = 32;
const LEAF_TAG = new TextEncoder().encode("\0shardy-result-v2\0");
const utf8 = new TextEncoder();

/** 00 ‖ "shardy-result-v2" ‖ 00 ‖ utf8(lease) ‖ 00 ‖ digest ‖ u64le(len), hashed. */
export function leafOf(hash: Hash, lease: string, digest: Uint8Array, len: number): Uint8Array<ArrayBuffer> {
  if (digest.length !== HASH_BYTES) throw new RangeError(`a digest has ${HASH_BYTES} bytes, this one ${digest.length}`);
  const id = utf8.encode(lease);
  const digestAt = LEAF_TAG.length + id.length + 1;
  const bytes = new Uint8Array(digestAt + HASH_BYTES + 8);
  bytes.set(LEAF_TAG, 0);
  bytes.set(id, LEAF_TAG.length);
  bytes.set(digest, digestAt);
  new DataView(bytes.buffer).setBigUint64(digestAt + HASH_BYTES, BigInt(len), true);
  return hash(bytes);
}

/** The root over `leaves` in their order; a single one is its own root. */
export function rootOf(hash: Hash, leaves: readonly Uint8Array[]): Uint8Array {
  let level = leaves;
  const node = new Uint8Array(1 + 2 * HASH_BYTES);
  node[0] = 1;
  // Level by level the tree pairs what stands side by side, and takes an odd last one up as it is.
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let i = 0; i + 1 < level.length; i += 2) {
      node.set(level[i] as Uint8Array, 1);
      node.set(level[i + 1] as Uint8Array, 1 + HASH_BYTES);
      above.push(hash(node));
    }
    if (level.length % 2 === 1) above.push(level[level.length - 1] as Uint8Array);
    level = above;
  }
  const [root] = level;
  if (root === undefined) throw new RangeError("a tree has at least one leaf");
  return root;
}
