/** A `prove` frame (docs/protocol.md §8), checked: what is to be proved, with what, and which bytes that takes. */
import { type Circuit, circuitNamed } from "../prove/signals.ts";
import { Grid, type Tile } from "../prove/tiles.ts";
import { FrameError, type Header } from "./frame.ts";
import type { Operand } from "./types.ts";

const TILES_MAX = 64;
const PACKED_BYTES_MAX = 512 * 2 ** 20;
const UNPACKED_BYTES_MAX = 2 ** 30;
const HASH_BYTES = 32;
const DIGEST = /^[0-9a-f]{64}$/;

/** A gzip file of the mesh: its digest, its bytes, and how many they are unpacked. */
export type File = { digest: string; bytes: number; unpacked: number };

/** Where an operand of the result begins. */
type Place = { d: string; o: number };

export type Asked = {
  lease: string;
  task: string;
  deadlineMs: number;
  circuit: Circuit;
  version: string;
  vk: Uint8Array;
  root: Uint8Array;
  nonce: Uint8Array;
  k: number;
  a: Place;
  b: Place;
  zkey: File;
  r1cs: File;
  grid: Grid;
  /** Numbers of the grid, rising. */
  tiles: number[];
};

/** FrameError where the frame is none. */
export function askedOf(header: Header): Asked {
  try {
    return checked(header);
  } catch (error) {
    throw new FrameError(`frame prove: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function wrong(message: string): never {
  throw new RangeError(message);
}

function mapOf(value: unknown, name: string): Record<string, unknown> {
  const good = typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
  return good ? (value as Record<string, unknown>) : wrong(`${name} is a map`);
}

function countOf(value: unknown, name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const good = Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
  return good ? (value as number) : wrong(`${name} is ${String(value)}: ${least} to ${most} are possible`);
}

const textOf = (value: unknown, name: string): string =>
  typeof value === "string" && value !== "" ? value : wrong(`${name} is a text`);

const digestOf = (value: unknown, name: string): string =>
  typeof value === "string" && DIGEST.test(value) ? value : wrong(`${name} names no bytes`);

/** A copy: a view would keep the whole frame. */
const hashOf = (value: unknown, name: string): Uint8Array =>
  value instanceof Uint8Array && value.length === HASH_BYTES ? value.slice() : wrong(`${name} has ${HASH_BYTES} bytes`);

function fileOf(value: unknown, name: string): File {
  const { d, l, u } = mapOf(value, name);
  return {
    digest: digestOf(d, name),
    bytes: countOf(l, `${name}.l`, 1, PACKED_BYTES_MAX),
    unpacked: countOf(u, `${name}.u`, 1, UNPACKED_BYTES_MAX),
  };
}

function placeOf(value: unknown, name: string, rows: number): Place {
  const { d, o, r } = mapOf(value, name);
  if (r !== rows) wrong(`operand ${name} has ${String(r)} rows, and the result has ${rows}`);
  return { d: digestOf(d, name), o: countOf(o, `${name}.o`, 0) };
}

function checked(header: Header): Asked {
  const p = mapOf(header.p, "p");
  if (p.dtype !== "int8") wrong("only products of int8 are proved");
  const circuit = circuitNamed(textOf(header.circuit, "circuit"));
  const rows = countOf(header.rows, "rows", 1);
  const cols = countOf(header.cols, "cols", 1);
  const grid = new Grid(rows, cols, Math.min(circuit.m, rows), Math.min(circuit.n, cols));
  if (header.of !== grid.count) wrong(`of is ${String(header.of)}, and ${rows}×${cols} has ${grid.count} tiles`);
  const { tiles } = header;
  if (!Array.isArray(tiles) || tiles.length < 1 || tiles.length > TILES_MAX) {
    wrong(`1 to ${TILES_MAX} tiles are asked for`);
  }
  const numbers = (tiles as unknown[]).map((tile) => countOf(tile, "a tile", 0, grid.count - 1));
  if (numbers.some((tile, at) => at > 0 && tile <= (numbers[at - 1] as number))) wrong("tiles rise");
  return {
    lease: textOf(header.lease, "lease"),
    task: textOf(header.task, "task"),
    deadlineMs: typeof header.deadline_ms === "number" ? header.deadline_ms : wrong("deadline_ms is a number"),
    circuit,
    version: textOf(header.version, "version"),
    vk: hashOf(header.vk, "vk"),
    root: hashOf(header.root, "root"),
    nonce: hashOf(header.nonce, "nonce"),
    k: countOf(p.k, "p.k", 1, circuit.k),
    a: placeOf(p.a, "a", rows),
    b: placeOf(p.b, "b", cols),
    zkey: fileOf(header.zkey, "zkey"),
    r1cs: fileOf(header.r1cs, "r1cs"),
    grid,
    tiles: numbers,
  };
}

/** The slices of A and B that a tile is made of. */
export function operandsOf({ a, b, k }: Asked, tile: Tile): [a: Operand, b: Operand] {
  const slice = (place: Place, first: number, rows: number): Operand => ({
    d: place.d,
    o: place.o + first * k,
    l: rows * k,
    r: rows,
    c: k,
  });
  return [slice(a, tile.row0, tile.rows), slice(b, tile.col0, tile.cols)];
}
