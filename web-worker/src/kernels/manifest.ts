/** Every committed kernel file and the manifest that tells a host program how to drive it. */
import { blake3 } from "@noble/hashes/blake3.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { d } from "typegpu";
import { MatmulParams, matmulWgsl, PackParams, packWgsl } from "./shells.ts";
import { PACK_THREADS, tileM, tileN, VARIANTS, workgroupMemoryBytes } from "./variants.ts";

/** A struct of u32 has no padding: field i lies at byte 4·i. */
const u32Layout = (schema: { propTypes: Record<string, unknown> }, bytes: number) => ({
  bytes,
  fields: Object.keys(schema.propTypes).map((name, i) => ({ name, type: "u32", offset: 4 * i })),
});

const digest = (text: string): string => bytesToHex(blake3(new TextEncoder().encode(text)));

const binding = (index: number, name: string, type: string, element: string) => ({
  binding: index,
  name,
  type,
  element,
});

/** File name to contents: `<variant>.wgsl` and `manifest.json`. */
export function kernelFiles(): Map<string, string> {
  const files = new Map<string, string>();
  const variants = VARIANTS.map((v) => {
    const file = `${v.name}.wgsl`;
    const text = matmulWgsl(v);
    files.set(file, text);
    return {
      name: v.name,
      kind: "matmul",
      file,
      blake3: digest(text),
      entry_point: "main",
      workgroup_size: [v.threads_x, v.threads_y, 1],
      tile_m: tileM(v),
      tile_n: tileN(v),
      k_words: v.depth_words,
      uses_dp4a: v.dp4a,
      workgroup_memory_bytes: workgroupMemoryBytes(v),
      bindings: [
        binding(0, "params", "uniform", "MatmulParams"),
        binding(1, "a", "read-only-storage", "vec4<u32>[m*kv]"),
        binding(2, "b", "read-only-storage", "vec4<u32>[n*kv]"),
        binding(3, "c", "storage", "i32[m*n]"),
      ],
      params: u32Layout(MatmulParams, d.sizeOf(MatmulParams)),
      dispatch: "x: tiles along n, y: tiles along m; a slice of the tile grid starts at (tile_col, tile_row)",
      max_k: 65535,
      max_c_elements: 2 ** 32 - 1,
    };
  });
  const packText = packWgsl();
  files.set("pack_rows.wgsl", packText);
  const pack = {
    name: "pack_rows",
    kind: "pack",
    file: "pack_rows.wgsl",
    blake3: digest(packText),
    entry_point: "main",
    workgroup_size: [PACK_THREADS, 1, 1],
    bindings: [
      binding(0, "params", "uniform", "PackParams"),
      binding(1, "raw", "read-only-storage", "u32[ceil(rows*k/4)]"),
      binding(2, "packed", "storage", "vec4<u32>[rows*kv]"),
    ],
    params: u32Layout(PackParams, d.sizeOf(PackParams)),
    dispatch: `x: width/${PACK_THREADS}, y: ceil(rows*kv/width); width is a multiple of ${PACK_THREADS}`,
  };
  const manifest = {
    format: 1,
    product: "C[m,n] = A[m,k] * transpose(B[n,k]), int8 to int32, exact",
    packing: {
      k_multiple_bytes: 16,
      kv: "ceil(k/16)",
      rule: "each row holds its k int8 in order, then zeros up to kv*16 bytes; no padding rows; where k is a multiple of 16 a row-major int8 matrix is packed already",
    },
    variants,
    pack,
  };
  files.set("manifest.json", `${JSON.stringify(manifest, null, 2)}\n`);
  return files;
}
