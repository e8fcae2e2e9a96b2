/**
 * The chain of dependent products that a gateway asks for (docs/protocol.md §2.1): s_{i+1} = BLAKE3(C_i), where the
 * operands of C_i come from BLAKE3-XOF(s_i ‖ "A") and (s_i ‖ "B").
 */
import type { Engine } from "../engine/engine.ts";
import type { Multiply } from "./measure.ts";

export type ProbeShape = { seed: Uint8Array; m: number; n: number; k: number; rounds: number };

export async function probeDigest(engine: Engine, multiply: Multiply, shape: ProbeShape): Promise<Uint8Array> {
  const { m, n, k, rounds } = shape;
  const sizes = [m * k, n * k, 4 * m * n] as const;
  const [a, b, c] = sizes.map((size) => engine.alloc(size)) as [number, number, number];
  let state: Uint8Array = shape.seed;
  try {
    for (let i = 0; i < rounds; i++) {
      engine.xof(new Uint8Array([...state, 0x41]), a, sizes[0]);
      engine.xof(new Uint8Array([...state, 0x42]), b, sizes[1]);
      await multiply({ ptr: a, rows: m, key: null }, { ptr: b, rows: n, key: null }, k, c);
      state = engine.hash(c, sizes[2]);
    }
  } finally {
    for (const [i, ptr] of [a, b, c].entries()) engine.free(ptr, sizes[i] ?? 0);
  }
  return state;
}
