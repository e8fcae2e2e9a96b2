struct MatmulParams {
  m: u32,
  n: u32,
  kv: u32,
  tile_row: u32,
  tile_col: u32,
}

@group(0) @binding(0) var<uniform> params: MatmulParams;

var<workgroup> tileA: array<vec4u, 640>;

@group(0) @binding(1) var<storage, read> a: array<vec4u>;

var<workgroup> tileB: array<vec4u, 320>;

@group(0) @binding(2) var<storage, read> b: array<vec4u>;

fn dot4(a: u32, b: u32) -> i32 {
  return dot4I8Packed(a, b);
}

@group(0) @binding(3) var<storage, read_write> c: array<i32>;

@compute @workgroup_size(8, 16) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_id) lid: vec3u) {
  let m = params.m;
  let n = params.n;
  let kv = params.kv;
  let tx = lid.x;
  let ty = lid.y;
  let row0 = (wid.y + params.tile_row) * 128u;
  let col0 = (wid.x + params.tile_col) * 64u;
  let t = ty * 8u + tx;
  let lr = t / 4u;
  let lq = t % 4u;
  let pa0 = min(row0 + lr + 0u, m - 1u) * kv;
  let pa1 = min(row0 + lr + 32u, m - 1u) * kv;
  let pa2 = min(row0 + lr + 64u, m - 1u) * kv;
  let pa3 = min(row0 + lr + 96u, m - 1u) * kv;
  let pb0 = min(col0 + lr + 0u, n - 1u) * kv;
  let pb1 = min(col0 + lr + 32u, n - 1u) * kv;
  var s0_0 = vec4i(0);
  var s0_1 = vec4i(0);
  var s1_0 = vec4i(0);
  var s1_1 = vec4i(0);
  var s2_0 = vec4i(0);
  var s2_1 = vec4i(0);
  var s3_0 = vec4i(0);
  var s3_1 = vec4i(0);
  var s4_0 = vec4i(0);
  var s4_1 = vec4i(0);
  var s5_0 = vec4i(0);
  var s5_1 = vec4i(0);
  var s6_0 = vec4i(0);
  var s6_1 = vec4i(0);
  var s7_0 = vec4i(0);
  var s7_1 = vec4i(0);
  for (var q = 0u; q < kv; q += 4u) {
    let at = min(q + lq, kv - 1u);
    let inside = q + lq < kv;
    tileA[(lr + 0u) * 5u + lq] = select(vec4u(0), a[pa0 + at], inside);
    tileA[(lr + 32u) * 5u + lq] = select(vec4u(0), a[pa1 + at], inside);
    tileA[(lr + 64u) * 5u + lq] = select(vec4u(0), a[pa2 + at], inside);
    tileA[(lr + 96u) * 5u + lq] = select(vec4u(0), a[pa3 + at], inside);
    tileB[(lr + 0u) * 5u + lq] = b[pb0 + at];
    tileB[(lr + 32u) * 5u + lq] = b[pb1 + at];
    workgroupBarrier();
    {
    let a0 = tileA[(ty + 0u) * 5u + 0u];
    let a1 = tileA[(ty + 16u) * 5u + 0u];
    let a2 = tileA[(ty + 32u) * 5u + 0u];
    let a3 = tileA[(ty + 48u) * 5u + 0u];
    let a4 = tileA[(ty + 64u) * 5u + 0u];
    let a5 = tileA[(ty + 80u) * 5u + 0u];
    let a6 = tileA[(ty + 96u) * 5u + 0u];
    let a7 = tileA[(ty + 112u) * 5u + 0u];
    let b0 = tileB[(tx + 0u) * 5u + 0u];
    s0_0 += vec4i(dot4(a0.x, b0.x), dot4(a1.x, b0.x), dot4(a2.x, b0.x), dot4(a3.x, b0.x));
    s0_1 += vec4i(dot4(a4.x, b0.x), dot4(a5.x, b0.x), dot4(a6.x, b0.x), dot4(a7.x, b0.x));
    s0_0 += vec4i(dot4(a0.y, b0.y), dot4(a1.y, b0.y), dot4(a2.y, b0.y), dot4(a3.y, b0.y));
    s0_1 += vec4i(dot4(a4.y, b0.y), dot4(a5.y, b0.y), dot4(a6.y, b0.y), dot4(a7.y, b0.y));
    s0_0 += vec4i(dot4(a0.z, b0.z), dot4(a1.z, b0.z), dot4(a2.z, b0.z), dot4(a3.z, b0.z));
    s0_1 += vec4i(dot4(a4.z, b0.z), dot4(a5.z, b0.z), dot4(a6.z, b0.z), dot4(a7.z, b0.z));
    s0_0 += vec4i(dot4(a0.w, b0.w), dot4(a1.w, b0.w), dot4(a2.w, b0.w), dot4(a3.w, b0.w));
    s0_1 += vec4i(dot4(a4.w, b0.w), dot4(a5.w, b0.w), dot4(a6.w, b0.w), dot4(a7.w, b0.w));
    let b1 = tileB[(tx + 8u) * 5u + 0u];
    s1_0 += vec4i(dot4(a0.x, b1.x), dot4(a1.x, b1.x), dot4(a2.x, b1.x), dot4(a3.x, b1.x));
    s1_1 += vec4i(dot4(a4.x, b1.x), dot4(a5.x, b1.x), dot4(a6.x, b1.x), dot4(a7.x, b1.x));
    s1_0 += vec4i(dot4(a0.y, b1.y), dot4(a1.y, b1.y), dot4(a2.y, b1.y), dot4(a3.y, b1.y));
    s1_1 += vec4i(dot4(a4.y, b1.y), dot4(a5.y, b1.y), dot4(a6.y, b1.y), dot4(a7.y, b1.y));
    s1_0 += vec4i(dot4(a0.z, b1.z), dot4(a1.z, b1.z), dot4(a2.z, b1.z), dot4(a3.z, b1.z));
    s1_1 += vec4i(dot4(a4.z, b1.z), dot4(a5.z, b1.z), dot4(a6.z, b1.z), dot4(a7.z, b1.z));
    s1_0 += vec4i(dot4(a0.w, b1.w), dot4(a1.w, b1.w), dot4(a2.w, b1.w), dot4(a3.w, b1.w));
    s1_1 += vec4i(dot4(a4.w, b1.w), dot4(a5.w, b1.w), dot4(a6.w, b1.w), dot4(a7.w, b1.w));
    let b2 = tileB[(tx + 16u) * 5u + 0u];
    s2_0 += vec4i(dot4(a0.x, b2.x), dot4(a1.x, b2.x), dot4(a2.x, b2.x), dot4(a3.x, b2.x));
    s2_1 += vec4i(dot4(a4.x, b2.x), dot4(a5.x, b2.x), dot4(a6.x, b2.x), dot4(a7.x, b2.x));
    s2_0 += vec4i(dot4(a0.y, b2.y), dot4(a1.y, b2.y), dot4(a2.y, b2.y), dot4(a3.y, b2.y));
    s2_1 += vec4i(dot4(a4.y, b2.y), dot4(a5.y, b2.y), dot4(a6.y, b2.y), dot4(a7.y, b2.y));
    s2_0 += vec4i(dot4(a0.z, b2.z), dot4(a1.z, b2.z), dot4(a2.z, b2.z), dot4(a3.z, b2.z));
    s2_1 += vec4i(dot4(a4.z, b2.z), dot4(a5.z, b2.z), dot4(a6.z, b2.z), dot4(a7.z, b2.z));
    s2_0 += vec4i(dot4(a0.w, b2.w), dot4(a1.w, b2.w), dot4(a2.w, b2.w), dot4(a3.w, b2.w));
    s2_1 += vec4i(dot4(a4.w, b2.w), dot4(a5.w, b2.w), dot4(a6.w, b2.w), dot4(a7.w, b2.w));
    let b3 = tileB[(tx + 24u) * 5u + 0u];
    s3_0 += vec4i(dot4(a0.x, b3.x), dot4(a1.x, b3.x), dot4(a2.x, b3.x), dot4(a3.x, b3.x));
    s3_1 += vec4i(dot4(a4.x, b3.x), dot4(a5.x, b3.x), dot4(a6.x, b3.x), dot4(a7.x, b3.x));
    s3_0 += vec4i(dot4(a0.y, b3.y), dot4(a1.y, b3.y), dot4(a2.y, b3.y), dot4(a3.y, b3.y));
    s3_1 += vec4i(dot4(a4.y, b3.y), dot4(a5.y, b3.y), dot4(a6.y, b3.y), dot4(a7.y, b3.y));
    s3_0 += vec4i(dot4(a0.z, b3.z), dot4(a1.z, b3.z), dot4(a2.z, b3.z), dot4(a3.z, b3.z));
    s3_1 += vec4i(dot4(a4.z, b3.z), dot4(a5.z, b3.z), dot4(a6.z, b3.z), dot4(a7.z, b3.z));
    s3_0 += vec4i(dot4(a0.w, b3.w), dot4(a1.w, b3.w), dot4(a2.w, b3.w), dot4(a3.w, b3.w));
    s3_1 += vec4i(dot4(a4.w, b3.w), dot4(a5.w, b3.w), dot4(a6.w, b3.w), dot4(a7.w, b3.w));
    let b4 = tileB[(tx + 32u) * 5u + 0u];
    s4_0 += vec4i(dot4(a0.x, b4.x), dot4(a1.x, b4.x), dot4(a2.x, b4.x), dot4(a3.x, b4.x));
    s4_1 += vec4i(dot4(a4.x, b4.x), dot4(a5.x, b4.x), dot4(a6.x, b4.x), dot4(a7.x, b4.x));
    s4_0 += vec4i(dot4(a0.y, b4.y), dot4(a1.y, b4.y), dot4(a2.y, b4.y), dot4(a3.y, b4.y));
    s4_1 += vec4i(dot4(a4.y, b4.y), dot4(a5.y, b4.y), dot4(a6.y, b4.y), dot4(a7.y, b4.y));
    s4_0 += vec4i(dot4(a0.z, b4.z), dot4(a1.z, b4.z), dot4(a2.z, b4.z), dot4(a3.z, b4.z));
    s4_1 += vec4i(dot4(a4.z, b4.z), dot4(a5.z, b4.z), dot4(a6.z, b4.z), dot4(a7.z, b4.z));
    s4_0 += vec4i(dot4(a0.w, b4.w), dot4(a1.w, b4.w), dot4(a2.w, b4.w), dot4(a3.w, b4.w));
    s4_1 += vec4i(dot4(a4.w, b4.w), dot4(a5.w, b4.w), dot4(a6.w, b4.w), dot4(a7.w, b4.w));
    let b5 = tileB[(tx + 40u) * 5u + 0u];
    s5_0 += vec4i(dot4(a0.x, b5.x), dot4(a1.x, b5.x), dot4(a2.x, b5.x), dot4(a3.x, b5.x));
    s5_1 += vec4i(dot4(a4.x, b5.x), dot4(a5.x, b5.x), dot4(a6.x, b5.x), dot4(a7.x, b5.x));
    s5_0 += vec4i(dot4(a0.y, b5.y), dot4(a1.y, b5.y), dot4(a2.y, b5.y), dot4(a3.y, b5.y));
    s5_1 += vec4i(dot4(a4.y, b5.y), dot4(a5.y, b5.y), dot4(a6.y, b5.y), dot4(a7.y, b5.y));
    s5_0 += vec4i(dot4(a0.z, b5.z), dot4(a1.z, b5.z), dot4(a2.z, b5.z), dot4(a3.z, b5.z));
    s5_1 += vec4i(dot4(a4.z, b5.z), dot4(a5.z, b5.z), dot4(a6.z, b5.z), dot4(a7.z, b5.z));
    s5_0 += vec4i(dot4(a0.w, b5.w), dot4(a1.w, b5.w), dot4(a2.w, b5.w), dot4(a3.w, b5.w));
    s5_1 += vec4i(dot4(a4.w, b5.w), dot4(a5.w, b5.w), dot4(a6.w, b5.w), dot4(a7.w, b5.w));
    let b6 = tileB[(tx + 48u) * 5u + 0u];
    s6_0 += vec4i(dot4(a0.x, b6.x), dot4(a1.x, b6.x), dot4(a2.x, b6.x), dot4(a3.x, b6.x));
    s6_1 += vec4i(dot4(a4.x, b6.x), dot4(a5.x, b6.x), dot4(a6.x, b6.x), dot4(a7.x, b6.x));
    s6_0 += vec4i(dot4(a0.y, b6.y), dot4(a1.y, b6.y), dot4(a2.y, b6.y), dot4(a3.y, b6.y));
    s6_1 += vec4i(dot4(a4.y, b6.y), dot4(a5.y, b6.y), dot4(a6.y, b6.y), dot4(a7.y, b6.y));
    s6_0 += vec4i(dot4(a0.z, b6.z), dot4(a1.z, b6.z), dot4(a2.z, b6.z), dot4(a3.z, b6.z));
    s6_1 += vec4i(dot4(a4.z, b6.z), dot4(a5.z, b6.z), dot4(a6.z, b6.z), dot4(a7.z, b6.z));
    s6_0 += vec4i(dot4(a0.w, b6.w), dot4(a1.w, b6.w), dot4(a2.w, b6.w), dot4(a3.w, b6.w));
    s6_1 += vec4i(dot4(a4.w, b6.w), dot4(a5.w, b6.w), dot4(a6.w, b6.w), dot4(a7.w, b6.w));
    let b7 = tileB[(tx + 56u) * 5u + 0u];
    s7_0 += vec4i(dot4(a0.x, b7.x), dot4(a1.x, b7.x), dot4(a2.x, b7.x), dot4(a3.x, b7.x));
    s7_1 += vec4i(dot4(a4.x, b7.x), dot4(a5.x, b7.x), dot4(a6.x, b7.x), dot4(a7.x, b7.x));
    s7_0 += vec4i(dot4(a0.y, b7.y), dot4(a1.y, b7.y), dot4(a2.y, b7.y), dot4(a3.y, b7.y));
    s7_1 += vec4i(dot4(a4.y, b7.y), dot4(a5.y, b7.y), dot4(a6.y, b7.y), dot4(a7.y, b7.y));
    s7_0 += vec4i(dot4(a0.z, b7.z), dot4(a1.z, b7.z), dot4(a2.z, b7.z), dot4(a3.z, b7.z));
    s7_1 += vec4i(dot4(a4.z, b7.z), dot4(a5.z, b7.z), dot4(a6.z, b7.z), dot4(a7.z, b7.z));
    s7_0 += vec4i(dot4(a0.w, b7.w), dot4(a1.w, b7.w), dot4(a2.w, b7.w), dot4(a3.w, b7.w));
    s7_1 += vec4i(dot4(a4.w, b7.w), dot4(a5.w, b7.w), dot4(a6.w, b7.w), dot4(a7.w, b7.w));
    }
    {
    let a0 = tileA[(ty + 0u) * 5u + 1u];
    let a1 = tileA[(ty + 16u) * 5u + 1u];
    let a2 = tileA[(ty + 32u) * 5u + 1u];
    let a3 = tileA[(ty + 48u) * 5u + 1u];
    let a4 = tileA[(ty + 64u) * 5u + 1u];
    let a5 = tileA[(ty + 80u) * 5u + 1u];
    let a6 = tileA[(ty + 96u) * 5u + 1u];
    let a7 = tileA[(ty + 112u) * 5u + 1u];
    let b0 = tileB[(tx + 0u) * 5u + 1u];
    s0_0 += vec4i(dot4(a0.x, b0.x), dot4(a1.x, b0.x), dot4(a2.x, b0.x), dot4(a3.x, b0.x));
    s0_1 += vec4i(dot4(a4.x, b0.x), dot4(a5.x, b0.x), dot4(a6.x, b0.x), dot4(a7.x, b0.x));
    s0_0 += vec4i(dot4(a0.y, b0.y), dot4(a1.y, b0.y), dot4(a2.y, b0.y), dot4(a3.y, b0.y));
    s0_1 += vec4i(dot4(a4.y, b0.y), dot4(a5.y, b0.y), dot4(a6.y, b0.y), dot4(a7.y, b0.y));
    s0_0 += vec4i(dot4(a0.z, b0.z), dot4(a1.z, b0.z), dot4(a2.z, b0.z), dot4(a3.z, b0.z));
    s0_1 += vec4i(dot4(a4.z, b0.z), dot4(a5.z, b0.z), dot4(a6.z, b0.z), dot4(a7.z, b0.z));
    s0_0 += vec4i(dot4(a0.w, b0.w), dot4(a1.w, b0.w), dot4(a2.w, b0.w), dot4(a3.w, b0.w));
    s0_1 += vec4i(dot4(a4.w, b0.w), dot4(a5.w, b0.w), dot4(a6.w, b0.w), dot4(a7.w, b0.w));
    let b1 = tileB[(tx + 8u) * 5u + 1u];
    s1_0 += vec4i(dot4(a0.x, b1.x), dot4(a1.x, b1.x), dot4(a2.x, b1.x), dot4(a3.x, b1.x));
    s1_1 += vec4i(dot4(a4.x, b1.x), dot4(a5.x, b1.x), dot4(a6.x, b1.x), dot4(a7.x, b1.x));
    s1_0 += vec4i(dot4(a0.y, b1.y), dot4(a1.y, b1.y), dot4(a2.y, b1.y), dot4(a3.y, b1.y));
    s1_1 += vec4i(dot4(a4.y, b1.y), dot4(a5.y, b1.y), dot4(a6.y, b1.y), dot4(a7.y, b1.y));
    s1_0 += vec4i(dot4(a0.z, b1.z), dot4(a1.z, b1.z), dot4(a2.z, b1.z), dot4(a3.z, b1.z));
    s1_1 += vec4i(dot4(a4.z, b1.z), dot4(a5.z, b1.z), dot4(a6.z, b1.z), dot4(a7.z, b1.z));
    s1_0 += vec4i(dot4(a0.w, b1.w), dot4(a1.w, b1.w), dot4(a2.w, b1.w), dot4(a3.w, b1.w));
    s1_1 += vec4i(dot4(a4.w, b1.w), dot4(a5.w, b1.w), dot4(a6.w, b1.w), dot4(a7.w, b1.w));
    let b2 = tileB[(tx + 16u) * 5u + 1u];
    s2_0 += vec4i(dot4(a0.x, b2.x), dot4(a1.x, b2.x), dot4(a2.x, b2.x), dot4(a3.x, b2.x));
    s2_1 += vec4i(dot4(a4.x, b2.x), dot4(a5.x, b2.x), dot4(a6.x, b2.x), dot4(a7.x, b2.x));
    s2_0 += vec4i(dot4(a0.y, b2.y), dot4(a1.y, b2.y), dot4(a2.y, b2.y), dot4(a3.y, b2.y));
    s2_1 += vec4i(dot4(a4.y, b2.y), dot4(a5.y, b2.y), dot4(a6.y, b2.y), dot4(a7.y, b2.y));
    s2_0 += vec4i(dot4(a0.z, b2.z), dot4(a1.z, b2.z), dot4(a2.z, b2.z), dot4(a3.z, b2.z));
    s2_1 += vec4i(dot4(a4.z, b2.z), dot4(a5.z, b2.z), dot4(a6.z, b2.z), dot4(a7.z, b2.z));
    s2_0 += vec4i(dot4(a0.w, b2.w), dot4(a1.w, b2.w), dot4(a2.w, b2.w), dot4(a3.w, b2.w));
    s2_1 += vec4i(dot4(a4.w, b2.w), dot4(a5.w, b2.w), dot4(a6.w, b2.w), dot4(a7.w, b2.w));
    let b3 = tileB[(tx + 24u) * 5u + 1u];
    s3_0 += vec4i(dot4(a0.x, b3.x), dot4(a1.x, b3.x), dot4(a2.x, b3.x), dot4(a3.x, b3.x));
    s3_1 += vec4i(dot4(a4.x, b3.x), dot4(a5.x, b3.x), dot4(a6.x, b3.x), dot4(a7.x, b3.x));
    s3_0 += vec4i(dot4(a0.y, b3.y), dot4(a1.y, b3.y), dot4(a2.y, b3.y), dot4(a3.y, b3.y));
    s3_1 += vec4i(dot4(a4.y, b3.y), dot4(a5.y, b3.y), dot4(a6.y, b3.y), dot4(a7.y, b3.y));
    s3_0 += vec4i(dot4(a0.z, b3.z), dot4(a1.z, b3.z), dot4(a2.z, b3.z), dot4(a3.z, b3.z));
    s3_1 += vec4i(dot4(a4.z, b3.z), dot4(a5.z, b3.z), dot4(a6.z, b3.z), dot4(a7.z, b3.z));
    s3_0 += vec4i(dot4(a0.w, b3.w), dot4(a1.w, b3.w), dot4(a2.w, b3.w), dot4(a3.w, b3.w));
    s3_1 += vec4i(dot4(a4.w, b3.w), dot4(a5.w, b3.w), dot4(a6.w, b3.w), dot4(a7.w, b3.w));
    let b4 = tileB[(tx + 32u) * 5u + 1u];
    s4_0 += vec4i(dot4(a0.x, b4.x), dot4(a1.x, b4.x), dot4(a2.x, b4.x), dot4(a3.x, b4.x));
    s4_1 += vec4i(dot4(a4.x, b4.x), dot4(a5.x, b4.x), dot4(a6.x, b4.x), dot4(a7.x, b4.x));
    s4_0 += vec4i(dot4(a0.y, b4.y), dot4(a1.y, b4.y), dot4(a2.y, b4.y), dot4(a3.y, b4.y));
    s4_1 += vec4i(dot4(a4.y, b4.y), dot4(a5.y, b4.y), dot4(a6.y, b4.y), dot4(a7.y, b4.y));
    s4_0 += vec4i(dot4(a0.z, b4.z), dot4(a1.z, b4.z), dot4(a2.z, b4.z), dot4(a3.z, b4.z));
    s4_1 += vec4i(dot4(a4.z, b4.z), dot4(a5.z, b4.z), dot4(a6.z, b4.z), dot4(a7.z, b4.z));
    s4_0 += vec4i(dot4(a0.w, b4.w), dot4(a1.w, b4.w), dot4(a2.w, b4.w), dot4(a3.w, b4.w));
    s4_1 += vec4i(dot4(a4.w, b4.w), dot4(a5.w, b4.w), dot4(a6.w, b4.w), dot4(a7.w, b4.w));
    let b5 = tileB[(tx + 40u) * 5u + 1u];
    s5_0 += vec4i(dot4(a0.x, b5.x), dot4(a1.x, b5.x), dot4(a2.x, b5.x), dot4(a3.x, b5.x));
    s5_1 += vec4i(dot4(a4.x, b5.x), dot4(a5.x, b5.x), dot4(a6.x, b5.x), dot4(a7.x, b5.x));
    s5_0 += vec4i(dot4(a0.y, b5.y), dot4(a1.y, b5.y), dot4(a2.y, b5.y), dot4(a3.y, b5.y));
    s5_1 += vec4i(dot4(a4.y, b5.y), dot4(a5.y, b5.y), dot4(a6.y, b5.y), dot4(a7.y, b5.y));
    s5_0 += vec4i(dot4(a0.z, b5.z), dot4(a1.z, b5.z), dot4(a2.z, b5.z), dot4(a3.z, b5.z));
    s5_1 += vec4i(dot4(a4.z, b5.z), dot4(a5.z, b5.z), dot4(a6.z, b5.z), dot4(a7.z, b5.z));
    s5_0 += vec4i(dot4(a0.w, b5.w), dot4(a1.w, b5.w), dot4(a2.w, b5.w), dot4(a3.w, b5.w));
    s5_1 += vec4i(dot4(a4.w, b5.w), dot4(a5.w, b5.w), dot4(a6.w, b5.w), dot4(a7.w, b5.w));
    let b6 = tileB[(tx + 48u) * 5u + 1u];
    s6_0 += vec4i(dot4(a0.x, b6.x), dot4(a1.x, b6.x), dot4(a2.x, b6.x), dot4(a3.x, b6.x));
    s6_1 += vec4i(dot4(a4.x, b6.x), dot4(a5.x, b6.x), dot4(a6.x, b6.x), dot4(a7.x, b6.x));
    s6_0 += vec4i(dot4(a0.y, b6.y), dot4(a1.y, b6.y), dot4(a2.y, b6.y), dot4(a3.y, b6.y));
    s6_1 += vec4i(dot4(a4.y, b6.y), dot4(a5.y, b6.y), dot4(a6.y, b6.y), dot4(a7.y, b6.y));
    s6_0 += vec4i(dot4(a0.z, b6.z), dot4(a1.z, b6.z), dot4(a2.z, b6.z), dot4(a3.z, b6.z));
    s6_1 += vec4i(dot4(a4.z, b6.z), dot4(a5.z, b6.z), dot4(a6.z, b6.z), dot4(a7.z, b6.z));
    s6_0 += vec4i(dot4(a0.w, b6.w), dot4(a1.w, b6.w), dot4(a2.w, b6.w), dot4(a3.w, b6.w));
    s6_1 += vec4i(dot4(a4.w, b6.w), dot4(a5.w, b6.w), dot4(a6.w, b6.w), dot4(a7.w, b6.w));
    let b7 = tileB[(tx + 56u) * 5u + 1u];
    s7_0 += vec4i(dot4(a0.x, b7.x), dot4(a1.x, b7.x), dot4(a2.x, b7.x), dot4(a3.x, b7.x));
    s7_1 += vec4i(dot4(a4.x, b7.x), dot4(a5.x, b7.x), dot4(a6.x, b7.x), dot4(a7.x, b7.x));
    s7_0 += vec4i(dot4(a0.y, b7.y), dot4(a1.y, b7.y), dot4(a2.y, b7.y), dot4(a3.y, b7.y));
    s7_1 += vec4i(dot4(a4.y, b7.y), dot4(a5.y, b7.y), dot4(a6.y, b7.y), dot4(a7.y, b7.y));
    s7_0 += vec4i(dot4(a0.z, b7.z), dot4(a1.z, b7.z), dot4(a2.z, b7.z), dot4(a3.z, b7.z));
    s7_1 += vec4i(dot4(a4.z, b7.z), dot4(a5.z, b7.z), dot4(a6.z, b7.z), dot4(a7.z, b7.z));
    s7_0 += vec4i(dot4(a0.w, b7.w), dot4(a1.w, b7.w), dot4(a2.w, b7.w), dot4(a3.w, b7.w));
    s7_1 += vec4i(dot4(a4.w, b7.w), dot4(a5.w, b7.w), dot4(a6.w, b7.w), dot4(a7.w, b7.w));
    }
    {
    let a0 = tileA[(ty + 0u) * 5u + 2u];
    let a1 = tileA[(ty + 16u) * 5u + 2u];
    let a2 = tileA[(ty + 32u) * 5u + 2u];
    let a3 = tileA[(ty + 48u) * 5u + 2u];
    let a4 = tileA[(ty + 64u) * 5u + 2u];
    let a5 = tileA[(ty + 80u) * 5u + 2u];
    let a6 = tileA[(ty + 96u) * 5u + 2u];
    let a7 = tileA[(ty + 112u) * 5u + 2u];
    let b0 = tileB[(tx + 0u) * 5u + 2u];
    s0_0 += vec4i(dot4(a0.x, b0.x), dot4(a1.x, b0.x), dot4(a2.x, b0.x), dot4(a3.x, b0.x));
    s0_1 += vec4i(dot4(a4.x, b0.x), dot4(a5.x, b0.x), dot4(a6.x, b0.x), dot4(a7.x, b0.x));
    s0_0 += vec4i(dot4(a0.y, b0.y), dot4(a1.y, b0.y), dot4(a2.y, b0.y), dot4(a3.y, b0.y));
    s0_1 += vec4i(dot4(a4.y, b0.y), dot4(a5.y, b0.y), dot4(a6.y, b0.y), dot4(a7.y, b0.y));
    s0_0 += vec4i(dot4(a0.z, b0.z), dot4(a1.z, b0.z), dot4(a2.z, b0.z), dot4(a3.z, b0.z));
    s0_1 += vec4i(dot4(a4.z, b0.z), dot4(a5.z, b0.z), dot4(a6.z, b0.z), dot4(a7.z, b0.z));
    s0_0 += vec4i(dot4(a0.w, b0.w), dot4(a1.w, b0.w), dot4(a2.w, b0.w), dot4(a3.w, b0.w));
    s0_1 += vec4i(dot4(a4.w, b0.w), dot4(a5.w, b0.w), dot4(a6.w, b0.w), dot4(a7.w, b0.w));
    let b1 = tileB[(tx + 8u) * 5u + 2u];
    s1_0 += vec4i(dot4(a0.x, b1.x), dot4(a1.x, b1.x), dot4(a2.x, b1.x), dot4(a3.x, b1.x));
    s1_1 += vec4i(dot4(a4.x, b1.x), dot4(a5.x, b1.x), dot4(a6.x, b1.x), dot4(a7.x, b1.x));
    s1_0 += vec4i(dot4(a0.y, b1.y), dot4(a1.y, b1.y), dot4(a2.y, b1.y), dot4(a3.y, b1.y));
    s1_1 += vec4i(dot4(a4.y, b1.y), dot4(a5.y, b1.y), dot4(a6.y, b1.y), dot4(a7.y, b1.y));
    s1_0 += vec4i(dot4(a0.z, b1.z), dot4(a1.z, b1.z), dot4(a2.z, b1.z), dot4(a3.z, b1.z));
    s1_1 += vec4i(dot4(a4.z, b1.z), dot4(a5.z, b1.z), dot4(a6.z, b1.z), dot4(a7.z, b1.z));
    s1_0 += vec4i(dot4(a0.w, b1.w), dot4(a1.w, b1.w), dot4(a2.w, b1.w), dot4(a3.w, b1.w));
    s1_1 += vec4i(dot4(a4.w, b1.w), dot4(a5.w, b1.w), dot4(a6.w, b1.w), dot4(a7.w, b1.w));
    let b2 = tileB[(tx + 16u) * 5u + 2u];
    s2_0 += vec4i(dot4(a0.x, b2.x), dot4(a1.x, b2.x), dot4(a2.x, b2.x), dot4(a3.x, b2.x));
    s2_1 += vec4i(dot4(a4.x, b2.x), dot4(a5.x, b2.x), dot4(a6.x, b2.x), dot4(a7.x, b2.x));
    s2_0 += vec4i(dot4(a0.y, b2.y), dot4(a1.y, b2.y), dot4(a2.y, b2.y), dot4(a3.y, b2.y));
    s2_1 += vec4i(dot4(a4.y, b2.y), dot4(a5.y, b2.y), dot4(a6.y, b2.y), dot4(a7.y, b2.y));
    s2_0 += vec4i(dot4(a0.z, b2.z), dot4(a1.z, b2.z), dot4(a2.z, b2.z), dot4(a3.z, b2.z));
    s2_1 += vec4i(dot4(a4.z, b2.z), dot4(a5.z, b2.z), dot4(a6.z, b2.z), dot4(a7.z, b2.z));
    s2_0 += vec4i(dot4(a0.w, b2.w), dot4(a1.w, b2.w), dot4(a2.w, b2.w), dot4(a3.w, b2.w));
    s2_1 += vec4i(dot4(a4.w, b2.w), dot4(a5.w, b2.w), dot4(a6.w, b2.w), dot4(a7.w, b2.w));
    let b3 = tileB[(tx + 24u) * 5u + 2u];
    s3_0 += vec4i(dot4(a0.x, b3.x), dot4(a1.x, b3.x), dot4(a2.x, b3.x), dot4(a3.x, b3.x));
    s3_1 += vec4i(dot4(a4.x, b3.x), dot4(a5.x, b3.x), dot4(a6.x, b3.x), dot4(a7.x, b3.x));
    s3_0 += vec4i(dot4(a0.y, b3.y), dot4(a1.y, b3.y), dot4(a2.y, b3.y), dot4(a3.y, b3.y));
    s3_1 += vec4i(dot4(a4.y, b3.y), dot4(a5.y, b3.y), dot4(a6.y, b3.y), dot4(a7.y, b3.y));
    s3_0 += vec4i(dot4(a0.z, b3.z), dot4(a1.z, b3.z), dot4(a2.z, b3.z), dot4(a3.z, b3.z));
    s3_1 += vec4i(dot4(a4.z, b3.z), dot4(a5.z, b3.z), dot4(a6.z, b3.z), dot4(a7.z, b3.z));
    s3_0 += vec4i(dot4(a0.w, b3.w), dot4(a1.w, b3.w), dot4(a2.w, b3.w), dot4(a3.w, b3.w));
    s3_1 += vec4i(dot4(a4.w, b3.w), dot4(a5.w, b3.w), dot4(a6.w, b3.w), dot4(a7.w, b3.w));
    let b4 = tileB[(tx + 32u) * 5u + 2u];
    s4_0 += vec4i(dot4(a0.x, b4.x), dot4(a1.x, b4.x), dot4(a2.x, b4.x), dot4(a3.x, b4.x));
    s4_1 += vec4i(dot4(a4.x, b4.x), dot4(a5.x, b4.x), dot4(a6.x, b4.x), dot4(a7.x, b4.x));
    s4_0 += vec4i(dot4(a0.y, b4.y), dot4(a1.y, b4.y), dot4(a2.y, b4.y), dot4(a3.y, b4.y));
    s4_1 += vec4i(dot4(a4.y, b4.y), dot4(a5.y, b4.y), dot4(a6.y, b4.y), dot4(a7.y, b4.y));
    s4_0 += vec4i(dot4(a0.z, b4.z), dot4(a1.z, b4.z), dot4(a2.z, b4.z), dot4(a3.z, b4.z));
    s4_1 += vec4i(dot4(a4.z, b4.z), dot4(a5.z, b4.z), dot4(a6.z, b4.z), dot4(a7.z, b4.z));
    s4_0 += vec4i(dot4(a0.w, b4.w), dot4(a1.w, b4.w), dot4(a2.w, b4.w), dot4(a3.w, b4.w));
    s4_1 += vec4i(dot4(a4.w, b4.w), dot4(a5.w, b4.w), dot4(a6.w, b4.w), dot4(a7.w, b4.w));
    let b5 = tileB[(tx + 40u) * 5u + 2u];
    s5_0 += vec4i(dot4(a0.x, b5.x), dot4(a1.x, b5.x), dot4(a2.x, b5.x), dot4(a3.x, b5.x));
    s5_1 += vec4i(dot4(a4.x, b5.x), dot4(a5.x, b5.x), dot4(a6.x, b5.x), dot4(a7.x, b5.x));
    s5_0 += vec4i(dot4(a0.y, b5.y), dot4(a1.y, b5.y), dot4(a2.y, b5.y), dot4(a3.y, b5.y));
    s5_1 += vec4i(dot4(a4.y, b5.y), dot4(a5.y, b5.y), dot4(a6.y, b5.y), dot4(a7.y, b5.y));
    s5_0 += vec4i(dot4(a0.z, b5.z), dot4(a1.z, b5.z), dot4(a2.z, b5.z), dot4(a3.z, b5.z));
    s5_1 += vec4i(dot4(a4.z, b5.z), dot4(a5.z, b5.z), dot4(a6.z, b5.z), dot4(a7.z, b5.z));
    s5_0 += vec4i(dot4(a0.w, b5.w), dot4(a1.w, b5.w), dot4(a2.w, b5.w), dot4(a3.w, b5.w));
    s5_1 += vec4i(dot4(a4.w, b5.w), dot4(a5.w, b5.w), dot4(a6.w, b5.w), dot4(a7.w, b5.w));
    let b6 = tileB[(tx + 48u) * 5u + 2u];
    s6_0 += vec4i(dot4(a0.x, b6.x), dot4(a1.x, b6.x), dot4(a2.x, b6.x), dot4(a3.x, b6.x));
    s6_1 += vec4i(dot4(a4.x, b6.x), dot4(a5.x, b6.x), dot4(a6.x, b6.x), dot4(a7.x, b6.x));
    s6_0 += vec4i(dot4(a0.y, b6.y), dot4(a1.y, b6.y), dot4(a2.y, b6.y), dot4(a3.y, b6.y));
    s6_1 += vec4i(dot4(a4.y, b6.y), dot4(a5.y, b6.y), dot4(a6.y, b6.y), dot4(a7.y, b6.y));
    s6_0 += vec4i(dot4(a0.z, b6.z), dot4(a1.z, b6.z), dot4(a2.z, b6.z), dot4(a3.z, b6.z));
    s6_1 += vec4i(dot4(a4.z, b6.z), dot4(a5.z, b6.z), dot4(a6.z, b6.z), dot4(a7.z, b6.z));
    s6_0 += vec4i(dot4(a0.w, b6.w), dot4(a1.w, b6.w), dot4(a2.w, b6.w), dot4(a3.w, b6.w));
    s6_1 += vec4i(dot4(a4.w, b6.w), dot4(a5.w, b6.w), dot4(a6.w, b6.w), dot4(a7.w, b6.w));
    let b7 = tileB[(tx + 56u) * 5u + 2u];
    s7_0 += vec4i(dot4(a0.x, b7.x), dot4(a1.x, b7.x), dot4(a2.x, b7.x), dot4(a3.x, b7.x));
    s7_1 += vec4i(dot4(a4.x, b7.x), dot4(a5.x, b7.x), dot4(a6.x, b7.x), dot4(a7.x, b7.x));
    s7_0 += vec4i(dot4(a0.y, b7.y), dot4(a1.y, b7.y), dot4(a2.y, b7.y), dot4(a3.y, b7.y));
    s7_1 += vec4i(dot4(a4.y, b7.y), dot4(a5.y, b7.y), dot4(a6.y, b7.y), dot4(a7.y, b7.y));
    s7_0 += vec4i(dot4(a0.z, b7.z), dot4(a1.z, b7.z), dot4(a2.z, b7.z), dot4(a3.z, b7.z));
    s7_1 += vec4i(dot4(a4.z, b7.z), dot4(a5.z, b7.z), dot4(a6.z, b7.z), dot4(a7.z, b7.z));
    s7_0 += vec4i(dot4(a0.w, b7.w), dot4(a1.w, b7.w), dot4(a2.w, b7.w), dot4(a3.w, b7.w));
    s7_1 += vec4i(dot4(a4.w, b7.w), dot4(a5.w, b7.w), dot4(a6.w, b7.w), dot4(a7.w, b7.w));
    }
    {
    let a0 = tileA[(ty + 0u) * 5u + 3u];
    let a1 = tileA[(ty + 16u) * 5u + 3u];
    let a2 = tileA[(ty + 32u) * 5u + 3u];
    let a3 = tileA[(ty + 48u) * 5u + 3u];
    let a4 = tileA[(ty + 64u) * 5u + 3u];
    let a5 = tileA[(ty + 80u) * 5u + 3u];
    let a6 = tileA[(ty + 96u) * 5u + 3u];
    let a7 = tileA[(ty + 112u) * 5u + 3u];
    let b0 = tileB[(tx + 0u) * 5u + 3u];
    s0_0 += vec4i(dot4(a0.x, b0.x), dot4(a1.x, b0.x), dot4(a2.x, b0.x), dot4(a3.x, b0.x));
    s0_1 += vec4i(dot4(a4.x, b0.x), dot4(a5.x, b0.x), dot4(a6.x, b0.x), dot4(a7.x, b0.x));
    s0_0 += vec4i(dot4(a0.y, b0.y), dot4(a1.y, b0.y), dot4(a2.y, b0.y), dot4(a3.y, b0.y));
    s0_1 += vec4i(dot4(a4.y, b0.y), dot4(a5.y, b0.y), dot4(a6.y, b0.y), dot4(a7.y, b0.y));
    s0_0 += vec4i(dot4(a0.z, b0.z), dot4(a1.z, b0.z), dot4(a2.z, b0.z), dot4(a3.z, b0.z));
    s0_1 += vec4i(dot4(a4.z, b0.z), dot4(a5.z, b0.z), dot4(a6.z, b0.z), dot4(a7.z, b0.z));
    s0_0 += vec4i(dot4(a0.w, b0.w), dot4(a1.w, b0.w), dot4(a2.w, b0.w), dot4(a3.w, b0.w));
    s0_1 += vec4i(dot4(a4.w, b0.w), dot4(a5.w, b0.w), dot4(a6.w, b0.w), dot4(a7.w, b0.w));
    let b1 = tileB[(tx + 8u) * 5u + 3u];
    s1_0 += vec4i(dot4(a0.x, b1.x), dot4(a1.x, b1.x), dot4(a2.x, b1.x), dot4(a3.x, b1.x));
    s1_1 += vec4i(dot4(a4.x, b1.x), dot4(a5.x, b1.x), dot4(a6.x, b1.x), dot4(a7.x, b1.x));
    s1_0 += vec4i(dot4(a0.y, b1.y), dot4(a1.y, b1.y), dot4(a2.y, b1.y), dot4(a3.y, b1.y));
    s1_1 += vec4i(dot4(a4.y, b1.y), dot4(a5.y, b1.y), dot4(a6.y, b1.y), dot4(a7.y, b1.y));
    s1_0 += vec4i(dot4(a0.z, b1.z), dot4(a1.z, b1.z), dot4(a2.z, b1.z), dot4(a3.z, b1.z));
    s1_1 += vec4i(dot4(a4.z, b1.z), dot4(a5.z, b1.z), dot4(a6.z, b1.z), dot4(a7.z, b1.z));
    s1_0 += vec4i(dot4(a0.w, b1.w), dot4(a1.w, b1.w), dot4(a2.w, b1.w), dot4(a3.w, b1.w));
    s1_1 += vec4i(dot4(a4.w, b1.w), dot4(a5.w, b1.w), dot4(a6.w, b1.w), dot4(a7.w, b1.w));
    let b2 = tileB[(tx + 16u) * 5u + 3u];
    s2_0 += vec4i(dot4(a0.x, b2.x), dot4(a1.x, b2.x), dot4(a2.x, b2.x), dot4(a3.x, b2.x));
    s2_1 += vec4i(dot4(a4.x, b2.x), dot4(a5.x, b2.x), dot4(a6.x, b2.x), dot4(a7.x, b2.x));
    s2_0 += vec4i(dot4(a0.y, b2.y), dot4(a1.y, b2.y), dot4(a2.y, b2.y), dot4(a3.y, b2.y));
    s2_1 += vec4i(dot4(a4.y, b2.y), dot4(a5.y, b2.y), dot4(a6.y, b2.y), dot4(a7.y, b2.y));
    s2_0 += vec4i(dot4(a0.z, b2.z), dot4(a1.z, b2.z), dot4(a2.z, b2.z), dot4(a3.z, b2.z));
    s2_1 += vec4i(dot4(a4.z, b2.z), dot4(a5.z, b2.z), dot4(a6.z, b2.z), dot4(a7.z, b2.z));
    s2_0 += vec4i(dot4(a0.w, b2.w), dot4(a1.w, b2.w), dot4(a2.w, b2.w), dot4(a3.w, b2.w));
    s2_1 += vec4i(dot4(a4.w, b2.w), dot4(a5.w, b2.w), dot4(a6.w, b2.w), dot4(a7.w, b2.w));
    let b3 = tileB[(tx + 24u) * 5u + 3u];
    s3_0 += vec4i(dot4(a0.x, b3.x), dot4(a1.x, b3.x), dot4(a2.x, b3.x), dot4(a3.x, b3.x));
    s3_1 += vec4i(dot4(a4.x, b3.x), dot4(a5.x, b3.x), dot4(a6.x, b3.x), dot4(a7.x, b3.x));
    s3_0 += vec4i(dot4(a0.y, b3.y), dot4(a1.y, b3.y), dot4(a2.y, b3.y), dot4(a3.y, b3.y));
    s3_1 += vec4i(dot4(a4.y, b3.y), dot4(a5.y, b3.y), dot4(a6.y, b3.y), dot4(a7.y, b3.y));
    s3_0 += vec4i(dot4(a0.z, b3.z), dot4(a1.z, b3.z), dot4(a2.z, b3.z), dot4(a3.z, b3.z));
    s3_1 += vec4i(dot4(a4.z, b3.z), dot4(a5.z, b3.z), dot4(a6.z, b3.z), dot4(a7.z, b3.z));
    s3_0 += vec4i(dot4(a0.w, b3.w), dot4(a1.w, b3.w), dot4(a2.w, b3.w), dot4(a3.w, b3.w));
    s3_1 += vec4i(dot4(a4.w, b3.w), dot4(a5.w, b3.w), dot4(a6.w, b3.w), dot4(a7.w, b3.w));
    let b4 = tileB[(tx + 32u) * 5u + 3u];
    s4_0 += vec4i(dot4(a0.x, b4.x), dot4(a1.x, b4.x), dot4(a2.x, b4.x), dot4(a3.x, b4.x));
    s4_1 += vec4i(dot4(a4.x, b4.x), dot4(a5.x, b4.x), dot4(a6.x, b4.x), dot4(a7.x, b4.x));
    s4_0 += vec4i(dot4(a0.y, b4.y), dot4(a1.y, b4.y), dot4(a2.y, b4.y), dot4(a3.y, b4.y));
    s4_1 += vec4i(dot4(a4.y, b4.y), dot4(a5.y, b4.y), dot4(a6.y, b4.y), dot4(a7.y, b4.y));
    s4_0 += vec4i(dot4(a0.z, b4.z), dot4(a1.z, b4.z), dot4(a2.z, b4.z), dot4(a3.z, b4.z));
    s4_1 += vec4i(dot4(a4.z, b4.z), dot4(a5.z, b4.z), dot4(a6.z, b4.z), dot4(a7.z, b4.z));
    s4_0 += vec4i(dot4(a0.w, b4.w), dot4(a1.w, b4.w), dot4(a2.w, b4.w), dot4(a3.w, b4.w));
    s4_1 += vec4i(dot4(a4.w, b4.w), dot4(a5.w, b4.w), dot4(a6.w, b4.w), dot4(a7.w, b4.w));
    let b5 = tileB[(tx + 40u) * 5u + 3u];
    s5_0 += vec4i(dot4(a0.x, b5.x), dot4(a1.x, b5.x), dot4(a2.x, b5.x), dot4(a3.x, b5.x));
    s5_1 += vec4i(dot4(a4.x, b5.x), dot4(a5.x, b5.x), dot4(a6.x, b5.x), dot4(a7.x, b5.x));
    s5_0 += vec4i(dot4(a0.y, b5.y), dot4(a1.y, b5.y), dot4(a2.y, b5.y), dot4(a3.y, b5.y));
    s5_1 += vec4i(dot4(a4.y, b5.y), dot4(a5.y, b5.y), dot4(a6.y, b5.y), dot4(a7.y, b5.y));
    s5_0 += vec4i(dot4(a0.z, b5.z), dot4(a1.z, b5.z), dot4(a2.z, b5.z), dot4(a3.z, b5.z));
    s5_1 += vec4i(dot4(a4.z, b5.z), dot4(a5.z, b5.z), dot4(a6.z, b5.z), dot4(a7.z, b5.z));
    s5_0 += vec4i(dot4(a0.w, b5.w), dot4(a1.w, b5.w), dot4(a2.w, b5.w), dot4(a3.w, b5.w));
    s5_1 += vec4i(dot4(a4.w, b5.w), dot4(a5.w, b5.w), dot4(a6.w, b5.w), dot4(a7.w, b5.w));
    let b6 = tileB[(tx + 48u) * 5u + 3u];
    s6_0 += vec4i(dot4(a0.x, b6.x), dot4(a1.x, b6.x), dot4(a2.x, b6.x), dot4(a3.x, b6.x));
    s6_1 += vec4i(dot4(a4.x, b6.x), dot4(a5.x, b6.x), dot4(a6.x, b6.x), dot4(a7.x, b6.x));
    s6_0 += vec4i(dot4(a0.y, b6.y), dot4(a1.y, b6.y), dot4(a2.y, b6.y), dot4(a3.y, b6.y));
    s6_1 += vec4i(dot4(a4.y, b6.y), dot4(a5.y, b6.y), dot4(a6.y, b6.y), dot4(a7.y, b6.y));
    s6_0 += vec4i(dot4(a0.z, b6.z), dot4(a1.z, b6.z), dot4(a2.z, b6.z), dot4(a3.z, b6.z));
    s6_1 += vec4i(dot4(a4.z, b6.z), dot4(a5.z, b6.z), dot4(a6.z, b6.z), dot4(a7.z, b6.z));
    s6_0 += vec4i(dot4(a0.w, b6.w), dot4(a1.w, b6.w), dot4(a2.w, b6.w), dot4(a3.w, b6.w));
    s6_1 += vec4i(dot4(a4.w, b6.w), dot4(a5.w, b6.w), dot4(a6.w, b6.w), dot4(a7.w, b6.w));
    let b7 = tileB[(tx + 56u) * 5u + 3u];
    s7_0 += vec4i(dot4(a0.x, b7.x), dot4(a1.x, b7.x), dot4(a2.x, b7.x), dot4(a3.x, b7.x));
    s7_1 += vec4i(dot4(a4.x, b7.x), dot4(a5.x, b7.x), dot4(a6.x, b7.x), dot4(a7.x, b7.x));
    s7_0 += vec4i(dot4(a0.y, b7.y), dot4(a1.y, b7.y), dot4(a2.y, b7.y), dot4(a3.y, b7.y));
    s7_1 += vec4i(dot4(a4.y, b7.y), dot4(a5.y, b7.y), dot4(a6.y, b7.y), dot4(a7.y, b7.y));
    s7_0 += vec4i(dot4(a0.z, b7.z), dot4(a1.z, b7.z), dot4(a2.z, b7.z), dot4(a3.z, b7.z));
    s7_1 += vec4i(dot4(a4.z, b7.z), dot4(a5.z, b7.z), dot4(a6.z, b7.z), dot4(a7.z, b7.z));
    s7_0 += vec4i(dot4(a0.w, b7.w), dot4(a1.w, b7.w), dot4(a2.w, b7.w), dot4(a3.w, b7.w));
    s7_1 += vec4i(dot4(a4.w, b7.w), dot4(a5.w, b7.w), dot4(a6.w, b7.w), dot4(a7.w, b7.w));
    }
    workgroupBarrier();
  }
  let r0 = row0 + ty + 0u;
  if (r0 < m) {
    if (col0 + tx + 0u < n) {
      c[r0 * n + col0 + tx + 0u] = s0_0.x;
    }
    if (col0 + tx + 8u < n) {
      c[r0 * n + col0 + tx + 8u] = s1_0.x;
    }
    if (col0 + tx + 16u < n) {
      c[r0 * n + col0 + tx + 16u] = s2_0.x;
    }
    if (col0 + tx + 24u < n) {
      c[r0 * n + col0 + tx + 24u] = s3_0.x;
    }
    if (col0 + tx + 32u < n) {
      c[r0 * n + col0 + tx + 32u] = s4_0.x;
    }
    if (col0 + tx + 40u < n) {
      c[r0 * n + col0 + tx + 40u] = s5_0.x;
    }
    if (col0 + tx + 48u < n) {
      c[r0 * n + col0 + tx + 48u] = s6_0.x;
    }
    if (col0 + tx + 56u < n) {
      c[r0 * n + col0 + tx + 56u] = s7_0.x;
    }
  }
  let r1 = row0 + ty + 16u;
  if (r1 < m) {
    if (col0 + tx + 0u < n) {
      c[r1 * n + col0 + tx + 0u] = s0_0.y;
    }
    if (col0 + tx + 8u < n) {
      c[r1 * n + col0 + tx + 8u] = s1_0.y;
    }
    if (col0 + tx + 16u < n) {
      c[r1 * n + col0 + tx + 16u] = s2_0.y;
    }
    if (col0 + tx + 24u < n) {
      c[r1 * n + col0 + tx + 24u] = s3_0.y;
    }
    if (col0 + tx + 32u < n) {
      c[r1 * n + col0 + tx + 32u] = s4_0.y;
    }
    if (col0 + tx + 40u < n) {
      c[r1 * n + col0 + tx + 40u] = s5_0.y;
    }
    if (col0 + tx + 48u < n) {
      c[r1 * n + col0 + tx + 48u] = s6_0.y;
    }
    if (col0 + tx + 56u < n) {
      c[r1 * n + col0 + tx + 56u] = s7_0.y;
    }
  }
  let r2 = row0 + ty + 32u;
  if (r2 < m) {
    if (col0 + tx + 0u < n) {
      c[r2 * n + col0 + tx + 0u] = s0_0.z;
    }
    if (col0 + tx + 8u < n) {
      c[r2 * n + col0 + tx + 8u] = s1_0.z;
    }
    if (col0 + tx + 16u < n) {
      c[r2 * n + col0 + tx + 16u] = s2_0.z;
    }
    if (col0 + tx + 24u < n) {
      c[r2 * n + col0 + tx + 24u] = s3_0.z;
    }
    if (col0 + tx + 32u < n) {
      c[r2 * n + col0 + tx + 32u] = s4_0.z;
    }
    if (col0 + tx + 40u < n) {
      c[r2 * n + col0 + tx + 40u] = s5_0.z;
    }
    if (col0 + tx + 48u < n) {
      c[r2 * n + col0 + tx + 48u] = s6_0.z;
    }
    if (col0 + tx + 56u < n) {
      c[r2 * n + col0 + tx + 56u] = s7_0.z;
    }
  }
  let r3 = row0 + ty + 48u;
  if (r3 < m) {
    if (col0 + tx + 0u < n) {
      c[r3 * n + col0 + tx + 0u] = s0_0.w;
    }
    if (col0 + tx + 8u < n) {
      c[r3 * n + col0 + tx + 8u] = s1_0.w;
    }
    if (col0 + tx + 16u < n) {
      c[r3 * n + col0 + tx + 16u] = s2_0.w;
    }
    if (col0 + tx + 24u < n) {
      c[r3 * n + col0 + tx + 24u] = s3_0.w;
    }
    if (col0 + tx + 32u < n) {
      c[r3 * n + col0 + tx + 32u] = s4_0.w;
    }
    if (col0 + tx + 40u < n) {
      c[r3 * n + col0 + tx + 40u] = s5_0.w;
    }
    if (col0 + tx + 48u < n) {
      c[r3 * n + col0 + tx + 48u] = s6_0.w;
    }
    if (col0 + tx + 56u < n) {
      c[r3 * n + col0 + tx + 56u] = s7_0.w;
    }
  }
  let r4 = row0 + ty + 64u;
  if (r4 < m) {
    if (col0 + tx + 0u < n) {
      c[r4 * n + col0 + tx + 0u] = s0_1.x;
    }
    if (col0 + tx + 8u < n) {
      c[r4 * n + col0 + tx + 8u] = s1_1.x;
    }
    if (col0 + tx + 16u < n) {
      c[r4 * n + col0 + tx + 16u] = s2_1.x;
    }
    if (col0 + tx + 24u < n) {
      c[r4 * n + col0 + tx + 24u] = s3_1.x;
    }
    if (col0 + tx + 32u < n) {
      c[r4 * n + col0 + tx + 32u] = s4_1.x;
    }
    if (col0 + tx + 40u < n) {
      c[r4 * n + col0 + tx + 40u] = s5_1.x;
    }
    if (col0 + tx + 48u < n) {
      c[r4 * n + col0 + tx + 48u] = s6_1.x;
    }
    if (col0 + tx + 56u < n) {
      c[r4 * n + col0 + tx + 56u] = s7_1.x;
    }
  }
  let r5 = row0 + ty + 80u;
  if (r5 < m) {
    if (col0 + tx + 0u < n) {
      c[r5 * n + col0 + tx + 0u] = s0_1.y;
    }
    if (col0 + tx + 8u < n) {
      c[r5 * n + col0 + tx + 8u] = s1_1.y;
    }
    if (col0 + tx + 16u < n) {
      c[r5 * n + col0 + tx + 16u] = s2_1.y;
    }
    if (col0 + tx + 24u < n) {
      c[r5 * n + col0 + tx + 24u] = s3_1.y;
    }
    if (col0 + tx + 32u < n) {
      c[r5 * n + col0 + tx + 32u] = s4_1.y;
    }
    if (col0 + tx + 40u < n) {
      c[r5 * n + col0 + tx + 40u] = s5_1.y;
    }
    if (col0 + tx + 48u < n) {
      c[r5 * n + col0 + tx + 48u] = s6_1.y;
    }
    if (col0 + tx + 56u < n) {
      c[r5 * n + col0 + tx + 56u] = s7_1.y;
    }
  }
  let r6 = row0 + ty + 96u;
  if (r6 < m) {
    if (col0 + tx + 0u < n) {
      c[r6 * n + col0 + tx + 0u] = s0_1.z;
    }
    if (col0 + tx + 8u < n) {
      c[r6 * n + col0 + tx + 8u] = s1_1.z;
    }
    if (col0 + tx + 16u < n) {
      c[r6 * n + col0 + tx + 16u] = s2_1.z;
    }
    if (col0 + tx + 24u < n) {
      c[r6 * n + col0 + tx + 24u] = s3_1.z;
    }
    if (col0 + tx + 32u < n) {
      c[r6 * n + col0 + tx + 32u] = s4_1.z;
    }
    if (col0 + tx + 40u < n) {
      c[r6 * n + col0 + tx + 40u] = s5_1.z;
    }
    if (col0 + tx + 48u < n) {
      c[r6 * n + col0 + tx + 48u] = s6_1.z;
    }
    if (col0 + tx + 56u < n) {
      c[r6 * n + col0 + tx + 56u] = s7_1.z;
    }
  }
  let r7 = row0 + ty + 112u;
  if (r7 < m) {
    if (col0 + tx + 0u < n) {
      c[r7 * n + col0 + tx + 0u] = s0_1.w;
    }
    if (col0 + tx + 8u < n) {
      c[r7 * n + col0 + tx + 8u] = s1_1.w;
    }
    if (col0 + tx + 16u < n) {
      c[r7 * n + col0 + tx + 16u] = s2_1.w;
    }
    if (col0 + tx + 24u < n) {
      c[r7 * n + col0 + tx + 24u] = s3_1.w;
    }
    if (col0 + tx + 32u < n) {
      c[r7 * n + col0 + tx + 32u] = s4_1.w;
    }
    if (col0 + tx + 40u < n) {
      c[r7 * n + col0 + tx + 40u] = s5_1.w;
    }
    if (col0 + tx + 48u < n) {
      c[r7 * n + col0 + tx + 48u] = s6_1.w;
    }
    if (col0 + tx + 56u < n) {
      c[r7 * n + col0 + tx + 56u] = s7_1.w;
    }
  }
}
