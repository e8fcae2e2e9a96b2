/** A verification key's text, read strictly, as the proof module takes it: libs/shardy_common/proofs/parse.py. */
import { utf8 } from "./bytes.ts";
import { FormError, isMap, type Json, type JsonMap, parsed, type Rules } from "./json.ts";

const Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583n;
const BYTES_MAX = 64 * 1024;
const PUBLICS_MAX = 64;
const DECIMAL = /^(?:0|[1-9][0-9]{0,76})$/;

/** development: it says itself that its randomness is known. wire: α, β, γ, δ, and IC, a point more than signals. */
export type VerificationKey = { publics: number; development: boolean; wire: Uint8Array<ArrayBuffer> };

function small(text: string): number {
  if (text.length > 3 || text.startsWith("-")) throw new FormError("numbers are written as decimals in strings");
  return Number(text);
}

const RULES: Rules = { depthMax: 4, nestedMax: 3, integer: small, booleans: true, asciiKeys: false };
const NEEDED = ["vk_alpha_1", "vk_beta_2", "vk_gamma_2", "vk_delta_2", "IC", "protocol", "curve", "nPublic"];
const POSSIBLE = [...NEEDED, "vk_alphabeta_12", "shardy"];
const NOTE = ["dev", "circuit", "r1cs_blake3", "seed_tag"];

export function readKey(text: string): VerificationKey {
  if (text.length > BYTES_MAX || utf8.encode(text).length > BYTES_MAX) {
    throw new FormError(`a verification key takes at most ${BYTES_MAX} bytes`);
  }
  if (text.includes("\\")) throw new FormError("a verification key is written without backslashes");
  const key = named(parsed(text, RULES), "a verification key", NEEDED, POSSIBLE);
  if (key.protocol !== "groth16" || key.curve !== "bn128") {
    throw new FormError("a verification key is of groth16 on bn128");
  }
  const { nPublic, IC } = key;
  if (typeof nPublic !== "number" || nPublic > PUBLICS_MAX) {
    throw new FormError(`nPublic must be a number from 0 to ${PUBLICS_MAX}`);
  }
  if (!Array.isArray(IC) || IC.length !== nPublic + 1) throw new FormError("IC must be a list of nPublic + 1 points");
  const numbers = [
    ...g1(key.vk_alpha_1, "vk_alpha_1"),
    ...["vk_beta_2", "vk_gamma_2", "vk_delta_2"].flatMap((name) => g2(key[name], name)),
    ...IC.flatMap((point, at) => g1(point, `IC[${at}]`)),
  ];
  return { publics: nPublic, development: "shardy" in key && isDevelopment(key.shardy), wire: wireOf(numbers) };
}

/** 32 bytes for each number, the highest first. */
export function wireOf(numbers: readonly bigint[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(32 * numbers.length));
  numbers.forEach((number, index) => {
    for (let word = 0; word < 4; word++) {
      view.setBigUint64(32 * index + 8 * word, BigInt.asUintN(64, number >> BigInt(64 * (3 - word))));
    }
  });
  return new Uint8Array(view.buffer);
}

function isDevelopment(value: Json | undefined): true {
  const note = named(value, "shardy", NOTE, NOTE);
  if (note.dev !== true) throw new FormError("shardy.dev must be true: keys of a ceremony carry no such mark");
  if (NOTE.slice(1).some((name) => typeof note[name] !== "string")) throw new FormError("shardy holds strings");
  return true;
}

function named(value: Json | undefined, name: string, needed: string[], possible: string[]): JsonMap {
  if (!isMap(value)) throw new FormError(`${name} must be an object`);
  const missing = needed.filter((field) => !(field in value));
  if (missing.length > 0) throw new FormError(`${name} lacks ${missing.join(", ")}`);
  const more = Object.keys(value).filter((field) => !possible.includes(field));
  if (more.length > 0) throw new FormError(`${name} may not hold ${more.join(", ")}`);
  return value;
}

function items(value: Json | undefined, name: string, length: number): Json[] {
  if (!Array.isArray(value) || value.length !== length) throw new FormError(`${name} must be a list of ${length}`);
  return value;
}

function decimal(value: Json | undefined, name: string): bigint {
  if (typeof value !== "string" || !DECIMAL.test(value) || BigInt(value) >= Q) {
    throw new FormError(`${name} must be a decimal below q in a string`);
  }
  return BigInt(value);
}

function g1(value: Json | undefined, name: string): bigint[] {
  const [x, y, z] = items(value, name, 3);
  if (z !== "1") throw new FormError(`${name} must be affine`);
  return [decimal(x, name), decimal(y, name)];
}

function g2(value: Json | undefined, name: string): bigint[] {
  const [x, y, z] = items(value, name, 3);
  const [one, zero] = items(z, name, 2);
  if (one !== "1" || zero !== "0") throw new FormError(`${name} must be affine`);
  return [x, y].flatMap((pair) => items(pair, name, 2).map((part) => decimal(part, name)));
}
