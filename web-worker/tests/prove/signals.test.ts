import { beforeAll, describe, expect, it } from "vitest";
import type { Engine } from "../../src/engine/engine.ts";
import { rootOf } from "../../src/core/merkle.ts";
import { ProverModule } from "../../src/prove/module.ts";
import {
  circuitNamed,
  type Context,
  contextMessage,
  elementAt,
  elementBytes,
  inputBytes,
  K_MAX,
  P,
  packedBytes,
  packedRows,
  type Poseidon,
  signalsOf,
  taskContext,
  tree,
  type Witness,
  witnessOf,
} from "../../src/prove/signals.ts";
import { auditPath, challenge, Grid, tileField, tileLeaves, TILES_MAX } from "../../src/prove/tiles.ts";
import { fromHex, loadEngine, readBytes, readJson, toHex } from "../vectors.ts";

type ContextCase = Record<
  "name" | "task" | "worker" | "nonce" | "circuit" | "vk_version" | "vk_hash" | "seed" | "a" | "b" | "c" | "tile",
  string
> & { rows: number; k: number; cols: number };

type Vectors = {
  field: string;
  poseidon: { inputs: string[]; out: string }[];
  trees: { count: number; out: string }[];
  rows: {
    rows: number;
    cols: number;
    values: number[];
    circuit_rows: number;
    circuit_cols: number;
    packed: string[][];
  }[];
  bytes: { data: string; packed: string[] }[];
  contexts: (ContextCase & { message: string; task_ctx: string })[];
  signals: {
    name: string;
    circuit: string;
    context: ContextCase;
    a: string;
    b: string;
    c: string;
    witness: { context: string; length: string; a: string[][]; b: string[]; c: string[][] };
    signals: string[];
  }[];
  tiles: {
    rows: number;
    cols: number;
    tile_rows: number;
    tile_cols: number;
    c: string;
    leaves: string[];
    root: string;
    paths: string[][];
  }[];
  challenges: { root: string; binding: string; nonce: string; tiles: number; checked: number; indices: number[] }[];
};

const vectors = readJson("vectors/proofs.json") as Vectors;

const contextOf = (text: ContextCase): Context => ({
  task: text.task,
  worker: fromHex(text.worker),
  nonce: fromHex(text.nonce),
  circuit: text.circuit,
  vkVersion: text.vk_version,
  vkHash: fromHex(text.vk_hash),
  rows: text.rows,
  k: text.k,
  cols: text.cols,
  seed: fromHex(text.seed),
  a: fromHex(text.a),
  b: fromHex(text.b),
  c: fromHex(text.c),
  tile: fromHex(text.tile),
});

const numbers = (texts: string[]): bigint[] => texts.map(BigInt);

const witnessCase = (found: Vectors["signals"][number]): Promise<Witness> =>
  witnessOf(
    circuitNamed(found.circuit),
    contextOf(found.context),
    ...([found.a, found.b, found.c].map(fromHex) as [Uint8Array, Uint8Array, Uint8Array]),
  );

let poseidon: Poseidon;
let engine: Engine;
beforeAll(async () => {
  ({ poseidon } = await ProverModule.load(readBytes("libs/shardy_common/proofs/prover.wasm")));
  engine = await loadEngine();
});

describe("the vectors of proofs", () => {
  it("agree on the field, its hash and trees of it", () => {
    expect(P.toString()).toBe(vectors.field);
    for (const { inputs, out } of vectors.poseidon) expect(poseidon(numbers(inputs)).toString()).toBe(out);
    for (const { count, out } of vectors.trees) {
      const values = Array.from({ length: count }, (_, at) => BigInt(at + 1));
      expect(tree(poseidon, values).toString()).toBe(out);
    }
  });

  it("agree on packed rows and bytes", () => {
    for (const { rows, cols, values, circuit_rows, circuit_cols, packed } of vectors.rows) {
      expect(packedRows(values, rows, cols, circuit_rows, circuit_cols)).toEqual(numbers(packed.flat()));
    }
    for (const { data, packed } of vectors.bytes) expect(packedBytes(fromHex(data))).toEqual(numbers(packed));
  });

  it.each(vectors.contexts)("agree on a context: $name", async (found) => {
    expect(toHex(contextMessage(contextOf(found)))).toBe(found.message);
    expect((await taskContext(contextOf(found))).toString()).toBe(found.task_ctx);
  });

  it.each(vectors.signals)("agree on inputs and signals: $name", async (found) => {
    const inputs = await witnessCase(found);
    const { context, length, a, b, c } = found.witness;
    const flat = [context, length, ...a.flat(), ...b, ...c.flat()];
    expect([inputs.context, inputs.length, ...inputs.a, ...inputs.b, ...inputs.c]).toEqual(numbers(flat));
    const bytes = inputBytes(inputs);
    expect(flat.map((_, at) => elementAt(bytes, 32 * at).toString())).toEqual(flat);
    expect(Object.values(signalsOf(poseidon, inputs)).map(String)).toEqual(found.signals);
  });

  it.each(vectors.tiles)("agree on $tile_rows×$tile_cols tiles of $rows×$cols", (found) => {
    const grid = new Grid(found.rows, found.cols, found.tile_rows, found.tile_cols);
    const leaves = tileLeaves(engine, grid, fromHex(found.c));
    const root = rootOf((bytes) => engine.hashBytes(bytes), leaves);
    expect(leaves.map(toHex)).toEqual(found.leaves);
    expect(toHex(root)).toBe(found.root);
    expect(leaves.map((_, index) => auditPath(engine, leaves, index).map(toHex))).toEqual(found.paths);
    expect(() => auditPath(engine, leaves, leaves.length)).toThrow(RangeError);
    expect(() => grid.tile(grid.count)).toThrow(RangeError);
    expect(() => grid.tileBytes(0, fromHex(found.c).subarray(1))).toThrow(RangeError);
    expect(toHex(tileField(root, 5))).toBe(`${found.root}0500000000000000`);
  });

  it.each(vectors.challenges)("agree on a challenge of $checked of $tiles tiles", (found) => {
    const given = [found.root, found.binding, found.nonce].map(fromHex) as [Uint8Array, Uint8Array, Uint8Array];
    expect(challenge(engine, ...given, found.tiles, found.checked)).toEqual(found.indices);
  });

  it("are refused with any field of a context changed: no two contexts meet", async () => {
    const all = await Promise.all(vectors.contexts.map((found) => taskContext(contextOf(found))));
    expect(new Set(all).size).toBe(all.length);
  });
});

describe("what does not fit is refused", () => {
  const found = vectors.signals[0] as Vectors["signals"][number];
  const [a, b, c] = [found.a, found.b, found.c].map(fromHex) as [Uint8Array, Uint8Array, Uint8Array];
  const good = contextOf(found.context);
  const circuit = circuitNamed(found.circuit);

  it("names of circuits", () => {
    expect(circuitNamed("v2-8x384x8")).toEqual({ name: "v2-8x384x8", m: 8, k: 384, n: 8 });
    expect(circuitNamed(`v2-8x${K_MAX}x1`).k).toBe(K_MAX);
    const wrong = ["v2-8x8", "v1-8x8x8", "v2-7x8x8", "v2-08x8x8", `v2-8x${K_MAX + 1}x8`, "v2-8x8x8 ", "v2-8x0x8"];
    for (const name of wrong) {
      expect(() => circuitNamed(name), name).toThrow(RangeError);
    }
  });

  it.each<[string, Partial<Context>]>([
    ["an empty task", { task: "" }],
    ["an empty nonce", { nonce: new Uint8Array(0) }],
    ["no version", { vkVersion: "" }],
    ["a short worker", { worker: new Uint8Array(31) }],
    ["a long digest", { c: new Uint8Array(33) }],
    ["no rows", { rows: 0 }],
    ["half a column", { cols: 1.5 }],
    ["a shape that takes 33 bits", { k: 2 ** 32 }],
    ["a long seed", { seed: new Uint8Array(65_537) }],
    ["another circuit", { circuit: "v2-16x8x8" }],
    ["more rows than the circuit", { rows: 9 }],
  ])("a context with %s", async (_, changed) => {
    await expect(witnessOf(circuit, { ...good, ...changed }, a, b, c)).rejects.toThrow(RangeError);
  });

  it("but a field of 65,536 bytes is none too many", async () => {
    await expect(taskContext({ ...good, seed: new Uint8Array(65_536) })).resolves.toBeGreaterThan(0n);
  });

  it("operands and results of another size, and a C with a digit too large", async () => {
    await expect(witnessOf(circuit, good, a.subarray(1), b, c)).rejects.toThrow(RangeError);
    await expect(witnessOf(circuit, good, a, b.subarray(1), c)).rejects.toThrow(RangeError);
    await expect(witnessOf(circuit, good, a, b, c.subarray(4))).rejects.toThrow(RangeError);
    const pack = (value: number): bigint[] => packedRows([value], 1, 1, 8, 1);
    for (const value of [2 ** 30, -(2 ** 30)]) expect(() => pack(value)).toThrow(RangeError);
    for (const value of [2 ** 30 - 1, 1 - 2 ** 30]) expect(pack(value)).toHaveLength(1);
  });

  it("grids without tiles or with too many, and challenges of nothing", () => {
    expect(() => new Grid(0, 1, 1, 1)).toThrow(RangeError);
    expect(new Grid(TILES_MAX, 1, 1, 1).count).toBe(TILES_MAX);
    expect(() => new Grid(TILES_MAX + 1, 1, 1, 1)).toThrow(RangeError);
    const root = new Uint8Array(32);
    const none = new Uint8Array(0);
    expect(() => challenge(engine, root, none, none, 0, 1)).toThrow(RangeError);
    expect(() => challenge(engine, root, none, none, TILES_MAX + 1, 1)).toThrow(RangeError);
    expect(() => challenge(engine, root, none, none, 5, 0)).toThrow(RangeError);
    expect(() => challenge(engine, root.subarray(1), none, none, 5, 1)).toThrow(RangeError);
    expect(() => tileField(root.subarray(1), 0)).toThrow(RangeError);
  });

  it("is not the case of views that begin anywhere", async () => {
    const moved = (bytes: Uint8Array): Uint8Array => new Uint8Array([9, ...bytes]).subarray(1);
    const inputs = await witnessOf(circuit, good, moved(a), moved(b), moved(c));
    expect(elementBytes(inputs.c)).toEqual(elementBytes((await witnessCase(found)).c));
  });
});
