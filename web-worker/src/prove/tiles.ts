/** A result larger than a circuit: a commitment to all its tiles, and which of them are asked for (docs/proofs.md). */
import { type Hash, rootOf } from "../core/merkle.ts";
import type { Engine } from "../engine/engine.ts";

export const TILES_MAX = 2 ** 24;

const ITEM_BYTES = 4;
const HASH_BYTES = 32;
const LEAF_TAG = new TextEncoder().encode("\0shardy-tile-v2\0");
const CHALLENGE_TAG = new TextEncoder().encode("shardy-tile-challenge-v2\0");
/** Numbers drawn at a time from the output stream. */
const DRAWN = 64;

/** Rows [row0, row0+rows) and columns [col0, col0+cols) of C. */
export type Tile = { row0: number; rows: number; col0: number; cols: number };

/** C of rows×cols cut into tiles of tileRows×tileCols, the last ones smaller; numbered row by row from 0. */
export class Grid {
  readonly across: number;
  readonly count: number;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly tileRows: number,
    readonly tileCols: number,
  ) {
    if (![rows, cols, tileRows, tileCols].every((size) => Number.isInteger(size) && size >= 1)) {
      throw new RangeError("rows and columns of a grid and of its tiles are at least 1");
    }
    this.across = Math.ceil(cols / tileCols);
    this.count = Math.ceil(rows / tileRows) * this.across;
    if (this.count > TILES_MAX) throw new RangeError(`${this.count} tiles: at most ${TILES_MAX} are possible`);
  }

  tile(index: number): Tile {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`there is no tile ${index} of ${this.count}`);
    }
    const row0 = Math.floor(index / this.across) * this.tileRows;
    const col0 = (index % this.across) * this.tileCols;
    return {
      row0,
      rows: Math.min(this.tileRows, this.rows - row0),
      col0,
      cols: Math.min(this.tileCols, this.cols - col0),
    };
  }

  /** The tile's int32 in row-major order, out of C's bytes in row-major order. */
  tileBytes(index: number, c: Uint8Array): Uint8Array<ArrayBuffer> {
    if (c.length !== ITEM_BYTES * this.rows * this.cols) {
      throw new RangeError(`C has ${c.length} bytes, not ${ITEM_BYTES * this.rows * this.cols}`);
    }
    const { row0, rows, col0, cols } = this.tile(index);
    const wide = ITEM_BYTES * cols;
    const bytes = new Uint8Array(rows * wide);
    for (let row = 0; row < rows; row++) {
      const start = ITEM_BYTES * ((row0 + row) * this.cols + col0);
      bytes.set(c.subarray(start, start + wide), row * wide);
    }
    return bytes;
  }
}

function message(tag: Uint8Array, size: number): { bytes: Uint8Array<ArrayBuffer>; view: DataView } {
  const bytes = new Uint8Array(tag.length + size);
  bytes.set(tag);
  return { bytes, view: new DataView(bytes.buffer, tag.length) };
}

/** BLAKE3 over a tag, the tile's number (u64), the number of its bytes (u64) and their BLAKE3. */
export function leafOfDigest(hash: Hash, index: number, size: number, digest: Uint8Array): Uint8Array<ArrayBuffer> {
  const { bytes, view } = message(LEAF_TAG, 16 + HASH_BYTES);
  view.setBigUint64(0, BigInt(index), true);
  view.setBigUint64(8, BigInt(size), true);
  bytes.set(digest, LEAF_TAG.length + 16);
  return hash(bytes);
}

export const tileLeaf = (engine: Engine, index: number, data: Uint8Array): Uint8Array<ArrayBuffer> =>
  leafOfDigest((bytes) => engine.hashBytes(bytes), index, data.length, engine.hashBytes(data));

export const tileLeaves = (engine: Engine, grid: Grid, c: Uint8Array): Uint8Array<ArrayBuffer>[] =>
  Array.from({ length: grid.count }, (_, index) => tileLeaf(engine, index, grid.tileBytes(index, c)));

/** The hashes beside the way from leaf `index` to the root, the lowest first (RFC 9162 §2.1.3.1). */
export function auditPath(engine: Engine, leaves: readonly Uint8Array[], index: number): Uint8Array[] {
  if (!Number.isInteger(index) || index < 0 || index >= leaves.length) {
    throw new RangeError(`there is no leaf ${index} of ${leaves.length}`);
  }
  const path: Uint8Array[] = [];
  let [low, high] = [0, leaves.length];
  const hash = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => engine.hashBytes(bytes);
  while (high - low > 1) {
    const split = low + 2 ** (31 - Math.clz32(high - low - 1));
    const left = index < split;
    path.push(rootOf(hash, left ? leaves.slice(split, high) : leaves.slice(low, split)));
    if (left) high = split;
    else low = split;
  }
  return path.reverse();
}

/** What the context of a tile's proof carries in its field `tile`: the root and the tile's number (u64). */
export function tileField(root: Uint8Array, index: number): Uint8Array<ArrayBuffer> {
  if (root.length !== HASH_BYTES) throw new RangeError(`a root has ${HASH_BYTES} bytes, this one ${root.length}`);
  const { bytes, view } = message(root, 8);
  view.setBigUint64(0, BigInt(index), true);
  return bytes;
}

/** `checked` different tiles out of `tiles`, rising: the ones that root, binding and nonce choose. */
export function challenge(
  engine: Engine,
  root: Uint8Array,
  binding: Uint8Array,
  nonce: Uint8Array,
  tiles: number,
  checked: number,
): number[] {
  if (root.length !== HASH_BYTES) throw new RangeError(`a root has ${HASH_BYTES} bytes, this one ${root.length}`);
  const possible = [tiles, checked].every((count) => Number.isInteger(count) && count >= 1) && tiles <= TILES_MAX;
  if (!possible) throw new RangeError(`${checked} of ${tiles} tiles cannot be asked for`);
  if (checked >= tiles) return Array.from({ length: tiles }, (_, index) => index);
  const tag = new Uint8Array([...CHALLENGE_TAG, ...root]);
  const { bytes, view } = message(tag, 4 + binding.length + 4 + nonce.length + 16);
  view.setUint32(0, binding.length, true);
  bytes.set(binding, tag.length + 4);
  view.setUint32(4 + binding.length, nonce.length, true);
  bytes.set(nonce, tag.length + 8 + binding.length);
  view.setBigUint64(8 + binding.length + nonce.length, BigInt(tiles), true);
  view.setBigUint64(16 + binding.length + nonce.length, BigInt(checked), true);

  const fair = 2n ** 64n - (2n ** 64n % BigInt(tiles));
  const found = new Set<number>();
  // The stream has no end, but the engine writes it from its beginning: each turn asks for twice as much.
  for (let count = Math.max(DRAWN, 2 * checked), seen = 0; found.size < checked; count *= 2) {
    const stream = streamOf(engine, bytes, 8 * count);
    for (; seen < count && found.size < checked; seen++) {
      const number = stream.getBigUint64(8 * seen, true);
      if (number < fair) found.add(Number(number % BigInt(tiles)));
    }
  }
  return [...found].sort((left, right) => left - right);
}

function streamOf(engine: Engine, input: Uint8Array, length: number): DataView {
  const at = engine.alloc(length);
  try {
    engine.xof(input, at, length);
    return new DataView(engine.u8(at, length).slice().buffer);
  } finally {
    engine.free(at, length);
  }
}
