import { describe, expect, it } from "vitest";
import { cut, NpyError, readNpy, transposed } from "../../src/verify/npy.ts";

/** A file as NumPy writes it; head: the header's text. */
function file(head: string, data: number[], version = 1): Uint8Array<ArrayBuffer> {
  const start = version === 1 ? 10 : 12;
  const padded = head.padEnd(Math.ceil((start + head.length + 1) / 64) * 64 - start - 1) + "\n";
  const text = new TextEncoder().encode(padded);
  const bytes = new Uint8Array(start + text.length + data.length);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0]);
  const view = new DataView(bytes.buffer);
  if (version === 1) view.setUint16(8, text.length, true);
  else view.setUint32(8, text.length, true);
  bytes.set(text, start);
  bytes.set(data, start + text.length);
  return bytes;
}

const head = (descr: string, shape: string, fortran = "False"): string =>
  `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;
const refused = (bytes: Uint8Array<ArrayBuffer>, said: string): void => {
  expect(() => readNpy(bytes)).toThrow(NpyError);
  expect(() => readNpy(bytes)).toThrow(said);
};

describe("a .npy file", () => {
  it.each([1, 2, 3])("of version %i is read", (version) => {
    const found = readNpy(file(head("|i1", "(2, 3)"), [1, 2, 3, 4, 5, 255], version));
    expect([found.dtype, found.shape, [...found.bytes]]).toEqual(["int8", [2, 3], [1, 2, 3, 4, 5, 255]]);
  });

  it.each([
    ["<i4", "int32", "(1, 1)"],
    ["<f4", "float32", "(1,)"],
  ])("of %s is read", (descr, dtype, shape) => {
    const found = readNpy(file(head(descr, shape), [1, 2, 3, 4]));
    const sides = shape === "(1,)" ? [1] : [1, 1];
    expect([found.dtype, found.shape, [...found.bytes]]).toEqual([dtype, sides, [1, 2, 3, 4]]);
  });

  it("column by column is turned into rows", () => {
    const found = readNpy(file(head("<i1", "(2, 3)", "True"), [1, 4, 2, 5, 3, 6]));
    expect([found.shape, [...found.bytes]]).toEqual([[2, 3], [1, 2, 3, 4, 5, 6]]);
    expect([...transposed(found).bytes]).toEqual([1, 4, 2, 5, 3, 6]);
  });

  it("of anything else is refused in words", () => {
    refused(new Uint8Array(100), "no .npy");
    refused(new Uint8Array(3), "no .npy");
    refused(file(head("<i8", "(1, 1)"), [1, 2, 3, 4, 5, 6, 7, 8]), "'<i8'");
    refused(file(head(">i4", "(1, 1)"), [1, 2, 3, 4]), "'>i4'");
    refused(file(head("|O", "(1, 1)"), [1]), "'|O'");
    refused(file("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }", [1, 2, 3, 4]), "plain numbers");
    refused(file(head("|i1", "()"), [1]), "0 dimensions");
    refused(file(head("|i1", "(1, 1, 1)"), [1]), "3 dimensions");
    refused(file(head("|i1", "(2, 2)"), [1, 2, 3]), "takes 4 bytes");
    refused(file(head("|i1", "(2, 2)"), [1, 2, 3, 4, 5]), "holds 5");
    refused(file(head("|i1", "(1,)"), [1], 4), "version 4");
    refused(file("{'descr': '|i1', 'shape': (1,), }", [1]), "none of a .npy");
    refused(file("descr", [1]), "none of a .npy");
    refused(file(head("|i1", "(1,)"), [1]).slice(0, 40), "cut short");
  });
});

describe("a cut", () => {
  it("is some rows and columns, row by row", () => {
    const matrix = { dtype: "int32" as const, shape: [3, 4], bytes: Uint8Array.from({ length: 48 }, (_, at) => at) };
    const cells = (row: number, from: number, to: number): number[] =>
      Array.from({ length: 4 * (to - from) }, (_, at) => 16 * row + 4 * from + at);
    expect([...cut(matrix, 1, 2, 1, 2)]).toEqual([...cells(1, 1, 3), ...cells(2, 1, 3)]);
    expect([...cut(matrix, 1, 1, 0, 4)]).toEqual(cells(1, 0, 4));
  });
});
