import { describe, expect, it } from "vitest";
import { kernelText, manifest } from "../src/kernels/committed.ts";
import { kernelFiles } from "../src/kernels/manifest.ts";
import { SHAPES, tileM, tileN, workgroupMemoryBytes } from "../src/kernels/variants.ts";
import { readText } from "./vectors.ts";

const FOLDER = "libs/shardy_common/kernels";
const generated = kernelFiles();

describe("committed kernels", () => {
  it.each([...generated.keys()])("%s is what the generator writes (npm run kernels)", (name) => {
    expect(readText(`${FOLDER}/${name}`)).toBe(generated.get(name));
  });

  it("are what the browser runs", () => {
    for (const entry of [...manifest.variants, manifest.pack]) {
      expect(kernelText(entry)).toBe(readText(`${FOLDER}/${entry.file}`));
    }
  });

  it("index no array by a loop variable and use the builtin only where they say so", () => {
    for (const entry of manifest.variants) {
      const text = kernelText(entry);
      expect(text.includes("dot4I8Packed")).toBe(entry.uses_dp4a);
      expect(text.match(/\bfor \(/g)).toHaveLength(1);
      expect(text).not.toMatch(/var \w+ ?: ?array/);
    }
  });
});

describe("limits that every WebGPU adapter meets", () => {
  it.each(SHAPES)("$name", (shape) => {
    expect(workgroupMemoryBytes(shape)).toBeLessThanOrEqual(16_384);
    expect(shape.threads_x * shape.threads_y).toBeLessThanOrEqual(256);
  });

  it("shares loads evenly among the invocations", () => {
    for (const shape of SHAPES.filter((s) => s.shared)) {
      const rowsAtOnce = (shape.threads_x * shape.threads_y) / (shape.depth_words / 4);
      expect(tileM(shape) % rowsAtOnce).toBe(0);
      expect(tileN(shape) % rowsAtOnce).toBe(0);
    }
  });
});
