/** Reading vectors/*.json: the same inputs and bytes that Python and Rust read. */
import { readFileSync } from "node:fs";
import { blake3 } from "@noble/hashes/blake3.js";
import { Engine } from "../src/engine/engine.ts";

const ROOT = new URL("../../", import.meta.url);

export const readText = (path: string): string => readFileSync(new URL(path, ROOT), "utf8");
export const readBytes = (path: string): Uint8Array<ArrayBuffer> => new Uint8Array(readFileSync(new URL(path, ROOT)));
export const readJson = (path: string): unknown => JSON.parse(readText(path)) as unknown;

export const fromHex = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, "hex"));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export const enginePath = "libs/shardy_common/engine/shardy_engine.wasm";
export const loadEngine = (): Promise<Engine> => Engine.load(readBytes(enginePath));

export type ArraySpec = {
  type: "i8" | "i32" | "f32" | "u8";
  shape: number[];
  hex?: string;
  xof?: string;
  fill?: number;
  ramp?: boolean;
};

const WIDTH = { i8: 1, u8: 1, i32: 4, f32: 4 } as const;

/** The little-endian bytes of an array that a vector file describes. */
export function arrayBytes(spec: ArraySpec): Uint8Array<ArrayBuffer> {
  const count = spec.shape.reduce((product, n) => product * n, 1);
  const size = count * WIDTH[spec.type];
  if (spec.hex !== undefined) return fromHex(spec.hex);
  if (spec.xof !== undefined) {
    return size === 0 ? new Uint8Array(0) : new Uint8Array(blake3(new TextEncoder().encode(spec.xof), { dkLen: size }));
  }
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    const value = spec.ramp === undefined ? (spec.fill ?? 0) : i % 251;
    if (spec.type === "f32") view.setFloat32(4 * i, value, true);
    else if (spec.type === "i32") view.setInt32(4 * i, value, true);
    else bytes[i] = value;
  }
  return bytes;
}

/** Whether these are the expected bytes: in full, or by digest where the file holds only that. */
export const matches = (got: Uint8Array, want: { hex?: string; blake3?: string }): boolean =>
  want.hex === undefined ? toHex(blake3(got)) === want.blake3 : toHex(got) === want.hex;
