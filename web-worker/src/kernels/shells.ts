/** TypeGPU shells: typed bindings, uniforms and entry points around the generated WGSL. */
import tgpu, { d } from "typegpu";
import { dot4Body, matmulBody, packBody } from "./generate.ts";
import { PACK_THREADS, sharedStride, tileM, tileN, type Variant } from "./variants.ts";

export const MatmulParams = d
  .struct({ m: d.u32, n: d.u32, kv: d.u32, tile_row: d.u32, tile_col: d.u32 })
  .$name("MatmulParams");
export const PackParams = d.struct({ rows: d.u32, k: d.u32, kv: d.u32, width: d.u32 }).$name("PackParams");

export const matmulLayout = tgpu.bindGroupLayout({
  params: { uniform: MatmulParams },
  a: { storage: d.arrayOf(d.vec4u), access: "readonly" },
  b: { storage: d.arrayOf(d.vec4u), access: "readonly" },
  c: { storage: d.arrayOf(d.i32), access: "mutable" },
});

export const packLayout = tgpu.bindGroupLayout({
  params: { uniform: PackParams },
  raw: { storage: d.arrayOf(d.u32), access: "readonly" },
  packed: { storage: d.arrayOf(d.vec4u), access: "mutable" },
});

const builtins = { wid: d.builtin.workgroupId, lid: d.builtin.localInvocationId };

/** Whole WGSL module of one matmul variant, entry point `main`. */
export function matmulWgsl(variant: Variant): string {
  const dot4 = tgpu.fn([d.u32, d.u32], d.i32)`(a: u32, b: u32) -> i32 ${dot4Body(variant.dp4a)}`.$name("dot4");
  const tiles = variant.shared
    ? {
        tileA: tgpu.workgroupVar(d.arrayOf(d.vec4u, tileM(variant) * sharedStride(variant))).$name("tileA"),
        tileB: tgpu.workgroupVar(d.arrayOf(d.vec4u, tileN(variant) * sharedStride(variant))).$name("tileB"),
      }
    : {};
  const main = tgpu.computeFn({
    in: builtins,
    workgroupSize: [variant.threads_x, variant.threads_y],
  })`${matmulBody(variant)}`
    .$uses({ layout: matmulLayout, dot4, ...tiles })
    .$name("main");
  return `${tgpu.resolve([main])}\n`;
}

/** Whole WGSL module of the packing kernel, entry point `main`. */
export function packWgsl(): string {
  const main = tgpu.computeFn({
    in: { gid: d.builtin.globalInvocationId },
    workgroupSize: [PACK_THREADS],
  })`${packBody()}`
    .$uses({ layout: packLayout })
    .$name("main");
  return `${tgpu.resolve([main])}\n`;
}
