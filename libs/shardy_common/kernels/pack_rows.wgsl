struct PackParams {
  rows: u32,
  k: u32,
  kv: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> params: PackParams;

@group(0) @binding(1) var<storage, read> raw: array<u32>;

@group(0) @binding(2) var<storage, read_write> packed: array<vec4u>;

@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) gid: vec3u) {
  let k = params.k;
  let kv = params.kv;
  let i = gid.y * params.width + gid.x;
  if (gid.x >= params.width || i >= params.rows * kv) { return; }
  let row = i / kv;
  let first = (i % kv) * 16u;
  let start = row * k + first;
  let last = arrayLength(&raw) - 1u;
  let shift = (start & 3u) * 8u;
  let w0 = raw[min(start / 4u, last)];
  let w1 = raw[min(start / 4u + 1u, last)];
  let w2 = raw[min(start / 4u + 2u, last)];
  let w3 = raw[min(start / 4u + 3u, last)];
  let w4 = raw[min(start / 4u + 4u, last)];
  let low = vec4u(w0, w1, w2, w3) >> vec4u(shift);
  // Two shifts: one by 32 would leave the value as it is.
  let high = (vec4u(w1, w2, w3, w4) << vec4u(24u - shift)) << vec4u(8u);
  let left = vec4i(bitcast<i32>(k) - bitcast<i32>(first)) - vec4i(0, 4, 8, 12);
  let keep = clamp(left, vec4i(0), vec4i(4));
  let mask = select(vec4u(0xffffffffu), (vec4u(1u) << vec4u(keep * 8)) - vec4u(1u), keep < vec4i(4));
  packed[i] = (low | high) & mask;
}
