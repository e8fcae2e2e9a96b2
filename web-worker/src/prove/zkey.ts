/** Where the parts of a .zkey lie (snarkjs's file format, Groth16), read as far as a proof needs it. */
import { ProveError } from "./module.ts";

/** Sections by number: points by what they are, the others as they stand. */
export const SECTION = { head: 2, constants: 3, coefficients: 4, a: 5, b1: 6, b2: 7, c: 8, h: 9 } as const;

const HEAD_BYTES = 660;
const COUNTS_AT = 72;
/** Of the head's points α₁, β₁, β₂, γ₂, δ₁, δ₂ those that verify. */
const POINTS_AT = { alpha: 84, beta: 212, gamma: 340, delta: 532 } as const;
const G1_BYTES = 64;
const G2_BYTES = 128;
const SECTIONS_MAX = 32;
/** 2^22 rows and wires, as the module has it. */
const COUNT_MAX = 2 ** 22;

/** The order of BN254's base field, in which coordinates are. */
const Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583n;
/** 2⁻²⁵⁶ mod q: coordinates in a .zkey are multiplied by 2²⁵⁶. */
const UNSCALE = inverse(2n ** 256n % Q);

type Place = { at: number; size: number };
export type Bytes = Blob | Uint8Array;

function inverse(value: bigint): bigint {
  // Fermat: value^(q − 2).
  let [result, power] = [1n, value];
  for (let rest = Q - 2n; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * power) % Q;
    power = (power * power) % Q;
  }
  return result;
}

/** A copy of bytes [from, to), whose buffer is the reader's own. */
export async function sliceOf(bytes: Bytes, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
  if (bytes instanceof Uint8Array) return new Uint8Array(bytes.subarray(from, to));
  return new Uint8Array(await bytes.slice(from, to).arrayBuffer());
}

export class Zkey {
  private constructor(
    readonly bytes: Bytes,
    readonly head: Uint8Array<ArrayBuffer>,
    readonly wires: number,
    readonly publics: number,
    readonly domain: number,
    readonly places: ReadonlyMap<number, Place>,
  ) {}

  static async open(bytes: Bytes): Promise<Zkey> {
    const size = bytes instanceof Uint8Array ? bytes.length : bytes.size;
    const view = (part: Uint8Array): DataView => new DataView(part.buffer, part.byteOffset, part.length);
    const start = await sliceOf(bytes, 0, 12);
    if (start.length < 12 || new TextDecoder().decode(start.subarray(0, 4)) !== "zkey") {
      throw new ProveError("the proving key is no .zkey file");
    }
    const count = view(start).getUint32(8, true);
    if (view(start).getUint32(4, true) !== 1 || count > SECTIONS_MAX) {
      throw new ProveError("the proving key is of another version, or damaged");
    }
    const places = new Map<number, Place>();
    for (let at = 12, section = 0; section < count; section++) {
      const head = await sliceOf(bytes, at, at + 12);
      const length = head.length < 12 ? Infinity : Number(view(head).getBigUint64(4, true));
      if (at + 12 + length > size) throw new ProveError("the proving key is cut short or damaged");
      const number = view(head).getUint32(0, true);
      if (places.has(number)) throw new ProveError("the proving key is damaged: it has a section twice");
      places.set(number, { at: at + 12, size: length });
      at += 12 + length;
    }
    const place = places.get(SECTION.head);
    if (place?.size !== HEAD_BYTES) throw new ProveError("the proving key is of another kind, or damaged");
    const head = await sliceOf(bytes, place.at, place.at + HEAD_BYTES);
    const [wires, publics, domain] = [0, 4, 8].map((step) => view(head).getUint32(COUNTS_AT + step, true)) as [
      number,
      number,
      number,
    ];
    if (wires > COUNT_MAX || domain > COUNT_MAX || publics >= wires) throw new ProveError("the proving key is damaged");
    const key = new Zkey(bytes, head, wires, publics, domain, places);
    key.#check();
    return key;
  }

  /** How many points a section has, and how many bytes each. */
  points(section: number): { count: number; size: number } {
    const size = section === SECTION.b2 ? G2_BYTES : G1_BYTES;
    if (section === SECTION.h) return { count: this.domain, size };
    if (section === SECTION.c) return { count: this.wires - this.publics - 1, size };
    return { count: this.wires, size };
  }

  /** Points [first, first+count) of a section as they stand. */
  slice(section: number, first: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const { at } = this.#place(section);
    const { size } = this.points(section);
    return sliceOf(this.bytes, at + first * size, at + (first + count) * size);
  }

  section(number: number): Promise<Uint8Array<ArrayBuffer>> {
    const { at, size } = this.#place(number);
    return sliceOf(this.bytes, at, at + size);
  }

  /** The verification key in wire form: α, β, γ, δ, then IC; numbers of 32 bytes, the highest first. */
  async verificationKey(): Promise<Uint8Array<ArrayBuffer>> {
    const constants = await this.section(SECTION.constants);
    const { alpha, beta, gamma, delta } = POINTS_AT;
    const parts = [
      this.head.subarray(alpha, alpha + G1_BYTES),
      ...[beta, gamma, delta].map((at) => this.head.subarray(at, at + G2_BYTES)),
      constants,
    ];
    const wire = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    const out = new DataView(wire.buffer);
    let to = 0;
    for (const part of parts) {
      const view = new DataView(part.buffer, part.byteOffset, part.length);
      for (let at = 0; at < part.length; at += 32, to += 32) {
        let number = 0n;
        for (let word = 24; word >= 0; word -= 8) number = (number << 64n) | view.getBigUint64(at + word, true);
        number = (number * UNSCALE) % Q;
        for (let word = 0; word < 4; word++) {
          out.setBigUint64(to + 24 - 8 * word, BigInt.asUintN(64, number >> BigInt(64 * word)));
        }
      }
    }
    return wire;
  }

  #place(section: number): Place {
    const place = this.places.get(section);
    if (place === undefined) throw new ProveError(`the proving key has no section ${section}: it is damaged`);
    return place;
  }

  #check(): void {
    for (const section of [SECTION.a, SECTION.b1, SECTION.b2, SECTION.c, SECTION.h]) {
      const { count, size } = this.points(section);
      if (this.#place(section).size !== count * size) throw new ProveError("the proving key is damaged");
    }
    if (this.#place(SECTION.constants).size !== G1_BYTES * (this.publics + 1)) {
      throw new ProveError("the proving key is damaged");
    }
  }
}
