/**
 * The kernel variants and the numbers that describe them.
 *
 * One workgroup of `threads_x · threads_y` invocations makes a C tile of
 * `tile_m = threads_y · regs_m` rows by `tile_n = threads_x · regs_n` columns; each invocation keeps
 * `regs_m · regs_n` sums in registers. `depth_words` is how many packed u32 words of K (4 int8 each) one pass of
 * the K loop takes; with `shared` they pass through workgroup memory.
 */
export type Shape = {
  readonly name: string;
  readonly threads_x: number;
  readonly threads_y: number;
  readonly regs_m: number;
  readonly regs_n: number;
  readonly depth_words: number;
  readonly shared: boolean;
};

export type Variant = Shape & { readonly dp4a: boolean };

export const SHAPES: readonly Shape[] = [
  { name: "large", threads_x: 8, threads_y: 16, regs_m: 8, regs_n: 8, depth_words: 16, shared: true },
  { name: "medium", threads_x: 8, threads_y: 8, regs_m: 4, regs_n: 4, depth_words: 8, shared: true },
  { name: "small", threads_x: 8, threads_y: 8, regs_m: 4, regs_n: 4, depth_words: 4, shared: false },
];

/** Every shape twice: with the dot4I8Packed builtin, and with shifts for adapters without it. */
export const VARIANTS: readonly Variant[] = SHAPES.flatMap((shape) =>
  [true, false].map((dp4a) => ({ ...shape, name: `matmul_i8_${shape.name}_${dp4a ? "dp4a" : "shift"}`, dp4a })),
);

/** Invocations along x of the packing kernel. */
export const PACK_THREADS = 64;

export const tileM = (shape: Shape): number => shape.threads_y * shape.regs_m;
export const tileN = (shape: Shape): number => shape.threads_x * shape.regs_n;

/** vec4<u32> a row of a workgroup tile, one more than it holds: rows then start in different memory banks. */
export const sharedStride = (shape: Shape): number => shape.depth_words / 4 + 1;

export const workgroupMemoryBytes = (shape: Shape): number =>
  shape.shared ? (tileM(shape) + tileN(shape)) * sharedStride(shape) * 16 : 0;
