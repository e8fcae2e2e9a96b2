/**
 * Bodies of the compute kernels as WGSL text, fully unrolled.
 *
 * C[m,n] = A[m,k] · B[n,k]ᵀ, int8 operands, int32 sums, exact for k ≤ 65,535.
 * a: vec4<u32>[m · kv], b: vec4<u32>[n · kv], each row k int8 in order, zero-padded to kv · 16 bytes;
 * c: i32[m · n] row-major. Buffers never alias.
 *
 * Accumulators are named vec4 variables (four rows of one column each): an array indexed by a loop variable would
 * live in memory on most drivers, which costs a factor of twenty. Rows past the end are read as the last row and
 * never stored, so operands need no padding rows; the K tail of A is read as zero, which makes B's irrelevant.
 */
import { type Shape, sharedStride, tileM, tileN, type Variant } from "./variants.ts";

const LANES = ["x", "y", "z", "w"] as const;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

const accumulators = (shape: Shape): string[] =>
  range(shape.regs_n).flatMap((j) => range(shape.regs_m / 4).map((g) => `  var s${j}_${g} = vec4i(0);`));

/** 16 int8 of every register row against 16 int8 of every register column. */
function multiplyAdd(shape: Shape, aAt: (i: number) => string, bAt: (j: number) => string): string[] {
  const lines = range(shape.regs_m).map((i) => `    let a${i} = ${aAt(i)};`);
  for (const j of range(shape.regs_n)) {
    lines.push(`    let b${j} = ${bAt(j)};`);
    for (const lane of LANES) {
      for (const g of range(shape.regs_m / 4)) {
        const dots = range(4).map((i) => `dot4(a${g * 4 + i}.${lane}, b${j}.${lane})`);
        lines.push(`    s${j}_${g} += vec4i(${dots.join(", ")});`);
      }
    }
  }
  return lines;
}

function stores(shape: Shape): string[] {
  const lines: string[] = [];
  for (const i of range(shape.regs_m)) {
    lines.push(`  let r${i} = row0 + ty + ${i * shape.threads_y}u;`, `  if (r${i} < m) {`);
    for (const j of range(shape.regs_n)) {
      const value = `s${j}_${Math.floor(i / 4)}.${LANES[i % 4]}`;
      lines.push(`    if (col0 + tx + ${j * shape.threads_x}u < n) {`);
      lines.push(`      layout.$.c[r${i} * n + col0 + tx + ${j * shape.threads_x}u] = ${value};`, "    }");
    }
    lines.push("  }");
  }
  return lines;
}

const PROLOGUE = (shape: Shape): string[] => [
  "  let m = layout.$.params.m;",
  "  let n = layout.$.params.n;",
  "  let kv = layout.$.params.kv;",
  "  let tx = in.lid.x;",
  "  let ty = in.lid.y;",
  `  let row0 = (in.wid.y + layout.$.params.tile_row) * ${tileM(shape)}u;`,
  `  let col0 = (in.wid.x + layout.$.params.tile_col) * ${tileN(shape)}u;`,
];

function direct(shape: Shape): string[] {
  return [
    ...PROLOGUE(shape),
    "  if (row0 + ty >= m || col0 + tx >= n) { return; }",
    ...range(shape.regs_m).map((i) => `  let pa${i} = min(row0 + ty + ${i * shape.threads_y}u, m - 1u) * kv;`),
    ...range(shape.regs_n).map((j) => `  let pb${j} = min(col0 + tx + ${j * shape.threads_x}u, n - 1u) * kv;`),
    ...accumulators(shape),
    "  for (var q = 0u; q < kv; q++) {",
    ...multiplyAdd(
      shape,
      (i) => `layout.$.a[pa${i} + q]`,
      (j) => `layout.$.b[pb${j} + q]`,
    ),
    "  }",
    ...stores(shape),
  ];
}

function throughWorkgroup(shape: Shape): string[] {
  const quads = shape.depth_words / 4;
  const stride = sharedStride(shape);
  const threads = shape.threads_x * shape.threads_y;
  const rowsAtOnce = threads / quads;
  const loadsA = range(tileM(shape) / rowsAtOnce);
  const loadsB = range(tileN(shape) / rowsAtOnce);
  return [
    ...PROLOGUE(shape),
    `  let t = ty * ${shape.threads_x}u + tx;`,
    `  let lr = t / ${quads}u;`,
    `  let lq = t % ${quads}u;`,
    ...loadsA.map((l) => `  let pa${l} = min(row0 + lr + ${l * rowsAtOnce}u, m - 1u) * kv;`),
    ...loadsB.map((l) => `  let pb${l} = min(col0 + lr + ${l * rowsAtOnce}u, n - 1u) * kv;`),
    ...accumulators(shape),
    `  for (var q = 0u; q < kv; q += ${quads}u) {`,
    "    let at = min(q + lq, kv - 1u);",
    "    let inside = q + lq < kv;",
    ...loadsA.map(
      (l) =>
        `    tileA[(lr + ${l * rowsAtOnce}u) * ${stride}u + lq] = select(vec4u(0), layout.$.a[pa${l} + at], inside);`,
    ),
    ...loadsB.map((l) => `    tileB[(lr + ${l * rowsAtOnce}u) * ${stride}u + lq] = layout.$.b[pb${l} + at];`),
    "    workgroupBarrier();",
    ...range(quads).flatMap((quad) => [
      "    {",
      ...multiplyAdd(
        shape,
        (i) => `tileA[(ty + ${i * shape.threads_y}u) * ${stride}u + ${quad}u]`,
        (j) => `tileB[(tx + ${j * shape.threads_x}u) * ${stride}u + ${quad}u]`,
      ),
      "    }",
    ]),
    "    workgroupBarrier();",
    "  }",
    ...stores(shape),
  ];
}

/** Body of one matmul variant; dispatch (tiles along n, tiles along m). */
export const matmulBody = (variant: Variant): string =>
  `{\n${(variant.shared ? throughWorkgroup(variant) : direct(variant)).join("\n")}\n}`;

/** Dot product of four int8 packed in a u32, little-endian; the result is at most 4 · 2¹⁴ in size. */
export const dot4Body = (dp4a: boolean): string =>
  dp4a
    ? "{\n  return dot4I8Packed(a, b);\n}"
    : `{
  let x = (vec4i(bitcast<i32>(a)) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u);
  let y = (vec4i(bitcast<i32>(b)) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u);
  return x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}`;

/**
 * Rows of k bytes, back to back, to rows of kv · 16 bytes with a tail of zeros.
 * raw: u32 words of the rows · k bytes (the last word's spare bytes may hold anything);
 * packed: vec4<u32>[rows · kv]. One invocation a vec4; dispatch rows of `width` invocations.
 */
export const packBody = (): string => `{
  let k = layout.$.params.k;
  let kv = layout.$.params.kv;
  let i = in.gid.y * layout.$.params.width + in.gid.x;
  if (in.gid.x >= layout.$.params.width || i >= layout.$.params.rows * kv) { return; }
  let row = i / kv;
  let first = (i % kv) * 16u;
  let start = row * k + first;
  let last = arrayLength(&layout.$.raw) - 1u;
  let shift = (start & 3u) * 8u;
  let w0 = layout.$.raw[min(start / 4u, last)];
  let w1 = layout.$.raw[min(start / 4u + 1u, last)];
  let w2 = layout.$.raw[min(start / 4u + 2u, last)];
  let w3 = layout.$.raw[min(start / 4u + 3u, last)];
  let w4 = layout.$.raw[min(start / 4u + 4u, last)];
  let low = vec4u(w0, w1, w2, w3) >> vec4u(shift);
  // Two shifts: one by 32 would leave the value as it is.
  let high = (vec4u(w1, w2, w3, w4) << vec4u(24u - shift)) << vec4u(8u);
  let left = vec4i(bitcast<i32>(k) - bitcast<i32>(first)) - vec4i(0, 4, 8, 12);
  let keep = clamp(left, vec4i(0), vec4i(4));
  let mask = select(vec4u(0xffffffffu), (vec4u(1u) << vec4u(keep * 8)) - vec4u(1u), keep < vec4i(4));
  layout.$.packed[i] = (low | high) & mask;
}`;
