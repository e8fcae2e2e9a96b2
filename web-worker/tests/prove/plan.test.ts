import { describe, expect, it } from "vitest";
import { fits, instancesFor, MEASURED, needBytes } from "../../src/prove/needs.ts";
import { BEFORE, slicesOf } from "../../src/prove/plan.ts";
import { SECTION, sliceOf, Zkey } from "../../src/prove/zkey.ts";
import { readJson } from "../vectors.ts";

describe("the slices of a section", () => {
  it.each([1, 2_047, 2_048, 4_095, 4_096, 24_041, 131_072])("of %i points are all of it, once", (count) => {
    for (const instances of [1, 2, 3, 8, 16]) {
      const slices = slicesOf(SECTION.h, count, instances);
      let next = 0;
      for (const slice of slices) {
        expect(slice.first).toBe(next);
        expect(slice.count).toBeGreaterThan(0);
        next += slice.count;
      }
      expect(next).toBe(count);
      expect(slices.length).toBeLessThanOrEqual(instances === 1 ? 1 : 2 * instances);
      if (slices.length > 1) expect(Math.min(...slices.map((slice) => slice.count))).toBeGreaterThanOrEqual(2_047);
    }
  });

  it("are of all sections of points", () => {
    expect([...BEFORE, SECTION.h].sort()).toEqual([5, 6, 7, 8, 9]);
  });
});

describe("what a device may prove", () => {
  it("follows from the table, to the byte", () => {
    for (const name of Object.keys(MEASURED)) {
      for (const instances of [1, 2, 5]) {
        const need = needBytes(name, instances);
        expect(need).toBeGreaterThan(2 ** 20);
        expect(instancesFor(name, need, 16)).toBe(instances);
        expect(instancesFor(name, need - 1, 16)).toBe(instances - 1);
        expect(instancesFor(name, need, instances - 1 || 1)).toBe(instances - 1 || 1);
      }
      expect(fits(name, needBytes(name, 1))).toBe(true);
      expect(fits(name, needBytes(name, 1) - 1)).toBe(false);
    }
  });

  it("is nothing of which nobody measured what it takes", () => {
    for (const name of ["v2-128x128x128", "toString", ""]) {
      expect(fits(name, 2 ** 40)).toBe(false);
      expect(instancesFor(name, 2 ** 40, 8)).toBe(0);
    }
  });

  it("knows each circuit that is built", () => {
    const recorded = readJson("circuits/constraints.json") as { circuits: Record<string, unknown> };
    expect(Object.keys(MEASURED).sort()).toEqual(Object.keys(recorded.circuits).sort());
  });
});

describe("a .zkey", () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

  it.each<[string, Uint8Array]>([
    ["nothing", bytes("")],
    ["another file", bytes("wtns\u0002\0\0\0\u0002\0\0\0")],
    ["another version", bytes("zkey\u0002\0\0\0\u0001\0\0\0")],
    ["too many sections", bytes("zkey\u0001\0\0\0!\0\0\0")],
    ["a section that is not there", bytes("zkey\u0001\0\0\0\u0001\0\0\0")],
    ["a section longer than the file", bytes("zkey\u0001\0\0\0\u0001\0\0\0\u0002\0\0\0\u0001\0\0\0\0\0\0\0")],
    ["a section twice", bytes(`zkey\u0001\0\0\0\u0002\0\0\0${"\u0003\0\0\0\0\0\0\0\0\0\0\0".repeat(2)}`)],
    ["no head", bytes("zkey\u0001\0\0\0\0\0\0\0")],
    ["a short head", bytes("zkey\u0001\0\0\0\u0001\0\0\0\u0002\0\0\0\0\0\0\0\0\0\0\0")],
  ])("is not %s", async (_, file) => {
    await expect(Zkey.open(file)).rejects.toThrow(/the proving key/);
    await expect(Zkey.open(new Blob([new Uint8Array(file)]))).rejects.toThrow(/the proving key/);
  });

  it("gives slices that are the reader's own", async () => {
    const buffer = Buffer.from([1, 2, 3, 4]);
    for (const source of [buffer, new Blob([buffer])]) {
      const slice = await sliceOf(source, 1, 3);
      expect([...slice]).toEqual([2, 3]);
      expect(slice.buffer.byteLength).toBe(2);
      slice[0] = 9;
      expect(buffer[1]).toBe(2);
    }
  });
});
