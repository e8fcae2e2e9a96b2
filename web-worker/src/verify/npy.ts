/** NumPy's .npy files: int8, int32 and float32, little-endian, of one or two dimensions. */

export type Dtype = "int8" | "int32" | "float32";

/** bytes: row by row. */
export type Matrix = { dtype: Dtype; shape: number[]; bytes: Uint8Array<ArrayBuffer> };

/** Why a file is not taken, in words for people. */
export class NpyError extends Error {}

export const SIZE: Readonly<Record<Dtype, number>> = { int8: 1, int32: 4, float32: 4 };
const DTYPES: ReadonlyMap<string, Dtype> = new Map([
  ["|i1", "int8"],
  ["<i1", "int8"],
  ["<i4", "int32"],
  ["<f4", "float32"],
]);
const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const HEADER = /^\s*\{(.*)\}\s*$/s;
const ENTRY = /\s*'(\w+)'\s*:\s*('[^']*'|True|False|\([\d\s,]*\))\s*(?:,|$)/y;

/** The array in a file. NpyError for what is no such array. */
export function readNpy(file: Uint8Array<ArrayBuffer>): Matrix {
  if (file.length < 12 || MAGIC.some((byte, at) => file[at] !== byte)) {
    throw new NpyError("this is no .npy file: save the array with numpy.save");
  }
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const [major, wide] = [view.getUint8(6), view.getUint8(6) > 1];
  if (major < 1 || major > 3) throw new NpyError(`.npy files of version ${major} are not known`);
  const start = (wide ? 12 : 10) + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (start > file.length) throw new NpyError("the file is cut short");
  const header = entriesOf(new TextDecoder().decode(file.subarray(wide ? 12 : 10, start)));
  const descr = header.get("descr")?.slice(1, -1) ?? "";
  const dtype = DTYPES.get(descr);
  if (dtype === undefined) {
    throw new NpyError(`its numbers are '${descr}': int8, int32 and float32, little-endian, are taken`);
  }
  const shape = (header.get("shape") ?? "").match(/\d+/g)?.map(Number) ?? [];
  if (shape.length < 1 || shape.length > 2) throw new NpyError(`it has ${shape.length} dimensions: 1 or 2 are taken`);
  const size = shape.reduce((product, side) => product * side, SIZE[dtype]);
  if (file.length - start !== size) {
    const sides = shape.join("×");
    throw new NpyError(`an array of ${sides} takes ${size} bytes, and the file holds ${file.length - start}`);
  }
  const bytes = file.subarray(start);
  const columnwise = header.get("fortran_order") === "True" && shape.length === 2;
  if (!columnwise) return { dtype, shape, bytes };
  return transposed({ dtype, shape: [shape[1] as number, shape[0] as number], bytes });
}

function entriesOf(header: string): Map<string, string> {
  const found = new Map<string, string>();
  const inside = HEADER.exec(header)?.[1]?.trimEnd();
  if (inside === undefined) throw new NpyError("the header is none of a .npy file");
  for (ENTRY.lastIndex = 0; ENTRY.lastIndex < inside.length; ) {
    const entry = ENTRY.exec(inside);
    if (entry === null) throw new NpyError("the header is none of an array of plain numbers");
    found.set(entry[1] as string, entry[2] as string);
  }
  const wanted = ["descr", "fortran_order", "shape"];
  if (found.size !== wanted.length || !wanted.every((name) => found.has(name))) {
    throw new NpyError("the header is none of a .npy file");
  }
  return found;
}

/** Rows as columns. */
export function transposed({ dtype, shape, bytes }: Matrix): Matrix {
  const [rows, cols] = shape as [number, number];
  const size = SIZE[dtype];
  const out = new Uint8Array(bytes.length);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const [from, to] = [size * (row * cols + col), size * (col * rows + row)];
      for (let byte = 0; byte < size; byte++) out[to + byte] = bytes[from + byte] as number;
    }
  }
  return { dtype, shape: [cols, rows], bytes: out };
}

/** Rows [row0, row0 + rows) and columns [col0, col0 + cols) of a matrix, row by row. */
export function cut(matrix: Matrix, row0: number, rows: number, col0: number, cols: number): Uint8Array {
  const { dtype, shape, bytes } = matrix;
  const wide = (shape[1] as number) * SIZE[dtype];
  const [first, length] = [col0 * SIZE[dtype], cols * SIZE[dtype]];
  if (first === 0 && length === wide) return bytes.subarray(row0 * wide, (row0 + rows) * wide);
  const out = new Uint8Array(rows * length);
  for (let row = 0; row < rows; row++) {
    const at = (row0 + row) * wide + first;
    out.set(bytes.subarray(at, at + length), row * length);
  }
  return out;
}
