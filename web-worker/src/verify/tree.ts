/** The tree of RFC 9162 §2.1 with BLAKE3: a root from one leaf and its path, and one that grows leaf by leaf. */
import { type Hash, rootOf } from "../core/merkle.ts";

/** The root of the tree of `count` leaves in which `leaf` stands at `index`. RangeError where no path is like this. */
export function climb(
  hash: Hash,
  leaf: Uint8Array,
  index: number,
  count: number,
  path: readonly Uint8Array[],
): Uint8Array {
  if (index < 0 || index >= count) throw new RangeError(`there is no leaf ${index} of ${count}`);
  let [node, at, last, used] = [leaf, index, count - 1, 0];
  while (last > 0) {
    // An odd last node has no sibling: it stands a level higher as it is.
    if (at % 2 === 1 || at < last) {
      const sibling = path[used];
      if (sibling === undefined) {
        throw new RangeError(`a path of ${used} hashes is too short for leaf ${index} of ${count}`);
      }
      node = rootOf(hash, at % 2 === 1 ? [sibling, node] : [node, sibling]);
      used += 1;
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  if (used < path.length) {
    throw new RangeError(`a path of ${path.length} hashes is too long for leaf ${index} of ${count}`);
  }
  return node;
}

/** The root over leaves that come one by one: of full subtrees only the roots are kept, the largest first. */
export class GrowingRoot {
  #count = 0;
  readonly #full: Uint8Array[] = [];

  constructor(readonly hash: Hash) {}

  add(leaf: Uint8Array): void {
    let node = leaf;
    for (let bits = this.#count; bits % 2 === 1; bits = (bits - 1) / 2) {
      node = rootOf(this.hash, [this.#full.pop() as Uint8Array, node]);
    }
    this.#full.push(node);
    this.#count += 1;
  }

  /** RangeError when there is no leaf. */
  root(): Uint8Array {
    const last = this.#full.at(-1);
    if (last === undefined) throw new RangeError("a tree has at least one leaf");
    return this.#full.slice(0, -1).reduceRight((node, left) => rootOf(this.hash, [left, node]), last);
  }
}
