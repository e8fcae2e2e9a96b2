/**
 * The public signals of a product's proof, and what a prover puts into the circuit (docs/proofs.md): the same as
 * libs/shardy_common/proofs/signals.py, held to it by vectors/proofs.json.
 *
 * A field element is a bigint in 0 … P − 1; in bytes it has 32, the lowest first.
 */

export const P = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;
export const ELEMENT_BYTES = 32;
/** Up to here |C| ≤ k·2¹⁴ < 2³⁰, so that eight rows of C fit into one field element with their signs. */
export const K_MAX = 65_535;

const CONTEXT_TAG = new TextEncoder().encode("shardy-task-ctx-v2\0");
/** The first bytes of a SHA-256: as a number always below P. */
const CONTEXT_BYTES = 31;
const ROWS_PACKED = 8;
const DIGIT_BITS = 31;
const DIGIT_END = 2 ** (DIGIT_BITS - 1);
const WORD_BYTES = 31;
const HASH_BYTES = 32;
const FIELD_BYTES_MAX = 2 ** 16;
const TREE_ARITY = 12;
const NAME = /^v2-([1-9]\d{0,5})x([1-9]\d{0,5})x([1-9]\d{0,5})$/;

const utf8 = new TextEncoder();

/** The circuit for C[m×n] = A[m×k] · B[n×k]ᵀ; smaller matrices are padded with zeros. */
export type Circuit = { readonly name: string; readonly m: number; readonly k: number; readonly n: number };

/** The circuit of a name as `v2-8x384x8`. RangeError for any other text. */
export function circuitNamed(name: string): Circuit {
  const found = NAME.exec(name);
  if (found === null) throw new RangeError(`'${name}' is not the name of a circuit, as v2-8x384x8 is`);
  const [m, k, n] = found.slice(1).map(Number) as [number, number, number];
  if (m % ROWS_PACKED !== 0 || k > K_MAX) {
    throw new RangeError(`${name}: m must be a multiple of ${ROWS_PACKED} and k at most ${K_MAX}`);
  }
  return { name, m, k, n };
}

/**
 * Who proves what, for which lease, under which key. `rows`, `k`, `cols`: before padding. `a`, `b`, `c`: BLAKE3 of the
 * bytes of A, of B as stored (cols×k) and of C. `seed` and `tile` are empty where there is none.
 */
export type Context = {
  task: string;
  worker: Uint8Array;
  nonce: Uint8Array;
  circuit: string;
  vkVersion: string;
  vkHash: Uint8Array;
  rows: number;
  k: number;
  cols: number;
  seed: Uint8Array;
  a: Uint8Array;
  b: Uint8Array;
  c: Uint8Array;
  tile: Uint8Array;
};

/** A prover's private inputs, named and ordered as the circuit's; matrices flat, row by row. */
export type Witness = { context: bigint; length: bigint; a: bigint[]; b: bigint[]; c: bigint[] };

/** In the order of the circuit. */
export type Signals = { taskCtx: bigint; outLen: bigint; inputCommit: bigint; resultDigest: bigint };

/** Poseidon of 1 to 12 elements. */
export type Poseidon = (inputs: readonly bigint[]) => bigint;

const modP = (value: bigint): bigint => (value < 0n ? value + P : value);

function u32s(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, at) => view.setUint32(4 * at, value, true));
  return bytes;
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** What is hashed: the tag and every field behind its length. RangeError where a field has not the length it needs. */
export function contextMessage(context: Context): Uint8Array<ArrayBuffer> {
  for (const name of ["worker", "vkHash", "a", "b", "c"] as const) {
    if (context[name].length !== HASH_BYTES) {
      throw new RangeError(`${name} has ${context[name].length} bytes, not ${HASH_BYTES}`);
    }
  }
  for (const name of ["rows", "k", "cols"] as const) {
    const value = context[name];
    if (!Number.isInteger(value) || value < 1 || value >= 2 ** 32) {
      throw new RangeError(`${name} is ${value}: 1 to 2³² − 1 are possible`);
    }
  }
  const { task, worker, nonce, circuit, vkVersion, vkHash, rows, k, cols, seed, a, b, c, tile } = context;
  if (task === "" || nonce.length === 0 || circuit === "" || vkVersion === "") {
    throw new RangeError("task, nonce, circuit and vkVersion are not empty");
  }
  const texts = [task, circuit, vkVersion].map((text) => utf8.encode(text)) as [Uint8Array, Uint8Array, Uint8Array];
  const shape = u32s(rows, k, cols);
  const fields = [texts[0], worker, nonce, texts[1], texts[2], vkHash, shape, seed, a, b, c, tile];
  for (const field of fields) {
    if (field.length > FIELD_BYTES_MAX) {
      throw new RangeError(`a field has ${field.length} bytes: at most ${FIELD_BYTES_MAX}`);
    }
  }
  return concatenated([CONTEXT_TAG, ...fields.flatMap((field) => [u32s(field.length), field])]);
}

/** taskCtx: the first 31 bytes of SHA-256 over `contextMessage`, read with the most significant first. */
export async function taskContext(context: Context): Promise<bigint> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", contextMessage(context)));
  return digest.subarray(0, CONTEXT_BYTES).reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

/** Bytes of the result: int32, unpadded. */
export const outLen = (rows: number, cols: number): number => 4 * rows * cols;

/**
 * (circuitRows/8)·circuitCols numbers: eight rows each as signed digits of 31 bits, mod P.
 *
 * values: rows×cols in row-major order, each with |v| < 2³⁰. What the circuit has more than the matrix is zero.
 */
export function packedRows(
  values: ArrayLike<number>,
  rows: number,
  cols: number,
  circuitRows: number,
  circuitCols: number,
): bigint[] {
  const fits = rows >= 1 && rows <= circuitRows && cols >= 1 && cols <= circuitCols;
  if (!fits || values.length !== rows * cols) {
    throw new RangeError(`${values.length} values as ${rows}×${cols} do not fit into ${circuitRows}×${circuitCols}`);
  }
  const packed: bigint[] = [];
  for (let first = 0; first < circuitRows; first += ROWS_PACKED) {
    const last = Math.min(first + ROWS_PACKED, rows) - 1;
    for (let column = 0; column < circuitCols; column++) {
      let number = 0n;
      // From the highest digit down, so that one shift serves all digits so far.
      for (let row = last; row >= first && column < cols; row--) {
        const value = values[row * cols + column] as number;
        if (Math.abs(value) >= DIGIT_END) throw new RangeError(`${value} takes more than a digit of 31 bits`);
        number = (number << BigInt(DIGIT_BITS)) + BigInt(value);
      }
      packed.push(modP(number));
    }
  }
  return packed;
}

/** 31 bytes to a number, the first in the lowest place; the last number holds what is left. */
export function packedBytes(data: Uint8Array): bigint[] {
  const packed: bigint[] = [];
  const word = new Uint8Array(ELEMENT_BYTES);
  for (let at = 0; at < data.length; at += WORD_BYTES) {
    word.fill(0);
    word.set(data.subarray(at, at + WORD_BYTES));
    packed.push(elementAt(word, 0));
  }
  return packed;
}

/** The number whose 32 bytes begin at `at`. */
export function elementAt(bytes: Uint8Array, at: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, ELEMENT_BYTES);
  let value = 0n;
  for (let word = 24; word >= 0; word -= 8) value = (value << 64n) | view.getBigUint64(word, true);
  return value;
}

/** 32 bytes for each number, one after another. */
export function elementBytes(values: readonly bigint[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ELEMENT_BYTES * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    for (let word = 0; word < ELEMENT_BYTES; word += 8) {
      view.setBigUint64(ELEMENT_BYTES * index + word, BigInt.asUintN(64, value >> BigInt(8 * word)), true);
    }
  });
  return bytes;
}

/** Rows of B are filled up to the circuit's k, and their number to its n, with zeros; then 31 bytes to a number. */
function packedB(circuit: Circuit, cols: number, k: number, b: Uint8Array): bigint[] {
  const filled = new Uint8Array(circuit.n * circuit.k);
  for (let row = 0; row < cols; row++) filled.set(b.subarray(row * k, (row + 1) * k), row * circuit.k);
  return packedBytes(filled);
}

/** C's bytes as numbers, wherever they begin. */
function int32s(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Int32Array.from({ length: bytes.length / 4 }, (_, at) => view.getInt32(4 * at, true));
}

/**
 * What a prover puts in: A (rows×k int8), B (cols×k int8) and C (rows×cols little-endian int32) in row-major order.
 *
 * RangeError where sizes, ranges or the names of circuit and context do not fit. It does not look whether C is right.
 */
export async function witnessOf(
  circuit: Circuit,
  context: Context,
  a: Uint8Array,
  b: Uint8Array,
  c: Uint8Array,
): Promise<Witness> {
  const { rows, k, cols } = context;
  if (context.circuit !== circuit.name) {
    throw new RangeError(`the context names ${context.circuit}, not ${circuit.name}`);
  }
  const task = await taskContext(context);
  if (rows > circuit.m || k > circuit.k || cols > circuit.n) {
    throw new RangeError(`${rows}×${k}×${cols} does not fit into ${circuit.name}`);
  }
  if (a.length !== rows * k || b.length !== cols * k) {
    throw new RangeError(`A has ${a.length} bytes, not ${rows * k}, or B ${b.length}, not ${cols * k}`);
  }
  if (c.length !== outLen(rows, cols)) throw new RangeError(`C has ${c.length} bytes, not ${outLen(rows, cols)}`);
  const signed = new Int8Array(a.buffer, a.byteOffset, a.length);
  return {
    context: task,
    length: BigInt(outLen(rows, cols)),
    a: packedRows(signed, rows, k, circuit.m, circuit.k),
    b: packedB(circuit, cols, k, b),
    c: packedRows(int32s(c), rows, cols, circuit.m, circuit.n),
  };
}

/** The circuit's inputs in its order, 32 bytes each. */
export const inputBytes = ({ context, length, a, b, c }: Witness): Uint8Array<ArrayBuffer> =>
  elementBytes([context, length, ...a, ...b, ...c]);

/** Runs of twelve are hashed, the last one shorter, again until one value is left; a single value is hashed once. */
export function tree(poseidon: Poseidon, values: readonly bigint[]): bigint {
  let level = values;
  do {
    const above: bigint[] = [];
    for (let at = 0; at < level.length; at += TREE_ARITY) above.push(poseidon(level.slice(at, at + TREE_ARITY)));
    level = above;
  } while (level.length > 1);
  const [root] = level;
  if (root === undefined) throw new RangeError("a tree has at least one value");
  return root;
}

/** What the circuit makes public when these are its inputs. */
export function signalsOf(poseidon: Poseidon, inputs: Witness): Signals {
  return {
    taskCtx: inputs.context,
    outLen: inputs.length,
    inputCommit: poseidon([tree(poseidon, inputs.a), tree(poseidon, inputs.b)]),
    resultDigest: poseidon([tree(poseidon, inputs.c), inputs.length]),
  };
}
