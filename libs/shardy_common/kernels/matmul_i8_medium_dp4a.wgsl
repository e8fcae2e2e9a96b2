struct MatmulParams {
  m: u32,
  n: u32,
  kv: u32,
  tile_row: u32,
  tile_col: u32,
}

@group(0) @binding(0) var<uniform> params: MatmulParams;

var<workgroup> tileA: array<vec4u, 96>;

@group(0) @binding(1) var<storage, read> a: array<vec4u>;

var<workgroup> tileB: array<vec4u, 96>;

@group(0) @binding(2) var<storage, read> b: array<vec4u>;

fn dot4(a: u32, b: u32) -> i32 {
  return dot4I8Packed(a, b);
}

@group(0) @binding(3) var<storage, read_write> c: array<i32>;

@compute @workgroup_size(8, 8) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_id) lid: vec3u) {
  let m = params.m;
  let n = params.n;
  let kv = params.kv;
  let tx = lid.x;
  let ty = lid.y;
  let row0 = (wid.y + params.tile_row) * 32u;
  let col0 = (wid.x + params.tile_col) * 32u;
  let t = ty * 8u + tx;
  let lr = t / 2u;
  let lq = t % 2u;
  let pa0 = min(row0 + lr + 0u, m - 1u) * kv;
  let pb0 = min(col0 + lr + 0u, n - 1u) * kv;
  var s0_0 = vec4i(0);
  var s1_0 = vec4i(0);
  var s2_0 = vec4i(0);
  var s3_0 = vec4i(0);
  for (var q = 0u; q < kv; q += 2u) {
    let at = min(q + lq, kv - 1u);
    let inside = q + lq < kv;
    tileA[(lr + 0u) * 3u + lq] = select(vec4u(0), a[pa0 + at], inside);
    tileB[(lr + 0u) * 3u + lq] = b[pb0 + at];
    workgroupBarrier();
    {
    let a0 = tileA[(ty + 0u) * 3u + 0u];
    let a1 = tileA[(ty + 8u) * 3u + 0u];
    let a2 = tileA[(ty + 16u) * 3u + 0u];
    let a3 = tileA[(ty + 24u) * 3u + 0u];
    let b0 = tileB[(tx + 0u) * 3u + 0u];
    s0_0 += vec4i(dot4(a0.x, b0.x), dot4(a1.x, b0.x), dot4(a2.x, b0.x), dot4(a3.x, b0.x));
    s0_0 += vec4i(dot4(a0.y, b0.y), dot4(a1.y, b0.y), dot4(a2.y, b0.y), dot4(a3.y, b0.y));
    s0_0 += vec4i(dot4(a0.z, b0.z), dot4(a1.z, b0.z), dot4(a2.z, b0.z), dot4(a3.z, b0.z));
    s0_0 += vec4i(dot4(a0.w, b0.w), dot4(a1.w, b0.w), dot4(a2.w, b0.w), dot4(a3.w, b0.w));
    let b1 = tileB[(tx + 8u) * 3u + 0u];
    s1_0 += vec4i(dot4(a0.x, b1.x), dot4(a1.x, b1.x), dot4(a2.x, b1.x), dot4(a3.x, b1.x));
    s1_0 += vec4i(dot4(a0.y, b1.y), dot4(a1.y, b1.y), dot4(a2.y, b1.y), dot4(a3.y, b1.y));
    s1_0 += vec4i(dot4(a0.z, b1.z), dot4(a1.z, b1.z), dot4(a2.z, b1.z), dot4(a3.z, b1.z));
    s1_0 += vec4i(dot4(a0.w, b1.w), dot4(a1.w, b1.w), dot4(a2.w, b1.w), dot4(a3.w, b1.w));
    let b2 = tileB[(tx + 16u) * 3u + 0u];
    s2_0 += vec4i(dot4(a0.x, b2.x), dot4(a1.x, b2.x), dot4(a2.x, b2.x), dot4(a3.x, b2.x));
    s2_0 += vec4i(dot4(a0.y, b2.y), dot4(a1.y, b2.y), dot4(a2.y, b2.y), dot4(a3.y, b2.y));
    s2_0 += vec4i(dot4(a0.z, b2.z), dot4(a1.z, b2.z), dot4(a2.z, b2.z), dot4(a3.z, b2.z));
    s2_0 += vec4i(dot4(a0.w, b2.w), dot4(a1.w, b2.w), dot4(a2.w, b2.w), dot4(a3.w, b2.w));
    let b3 = tileB[(tx + 24u) * 3u + 0u];
    s3_0 += vec4i(dot4(a0.x, b3.x), dot4(a1.x, b3.x), dot4(a2.x, b3.x), dot4(a3.x, b3.x));
    s3_0 += vec4i(dot4(a0.y, b3.y), dot4(a1.y, b3.y), dot4(a2.y, b3.y), dot4(a3.y, b3.y));
    s3_0 += vec4i(dot4(a0.z, b3.z), dot4(a1.z, b3.z), dot4(a2.z, b3.z), dot4(a3.z, b3.z));
    s3_0 += vec4i(dot4(a0.w, b3.w), dot4(a1.w, b3.w), dot4(a2.w, b3.w), dot4(a3.w, b3.w));
    }
    {
    let a0 = tileA[(ty + 0u) * 3u + 1u];
    let a1 = tileA[(ty + 8u) * 3u + 1u];
    let a2 = tileA[(ty + 16u) * 3u + 1u];
    let a3 = tileA[(ty + 24u) * 3u + 1u];
    let b0 = tileB[(tx + 0u) * 3u + 1u];
    s0_0 += vec4i(dot4(a0.x, b0.x), dot4(a1.x, b0.x), dot4(a2.x, b0.x), dot4(a3.x, b0.x));
    s0_0 += vec4i(dot4(a0.y, b0.y), dot4(a1.y, b0.y), dot4(a2.y, b0.y), dot4(a3.y, b0.y));
    s0_0 += vec4i(dot4(a0.z, b0.z), dot4(a1.z, b0.z), dot4(a2.z, b0.z), dot4(a3.z, b0.z));
    s0_0 += vec4i(dot4(a0.w, b0.w), dot4(a1.w, b0.w), dot4(a2.w, b0.w), dot4(a3.w, b0.w));
    let b1 = tileB[(tx + 8u) * 3u + 1u];
    s1_0 += vec4i(dot4(a0.x, b1.x), dot4(a1.x, b1.x), dot4(a2.x, b1.x), dot4(a3.x, b1.x));
    s1_0 += vec4i(dot4(a0.y, b1.y), dot4(a1.y, b1.y), dot4(a2.y, b1.y), dot4(a3.y, b1.y));
    s1_0 += vec4i(dot4(a0.z, b1.z), dot4(a1.z, b1.z), dot4(a2.z, b1.z), dot4(a3.z, b1.z));
    s1_0 += vec4i(dot4(a0.w, b1.w), dot4(a1.w, b1.w), dot4(a2.w, b1.w), dot4(a3.w, b1.w));
    let b2 = tileB[(tx + 16u) * 3u + 1u];
    s2_0 += vec4i(dot4(a0.x, b2.x), dot4(a1.x, b2.x), dot4(a2.x, b2.x), dot4(a3.x, b2.x));
    s2_0 += vec4i(dot4(a0.y, b2.y), dot4(a1.y, b2.y), dot4(a2.y, b2.y), dot4(a3.y, b2.y));
    s2_0 += vec4i(dot4(a0.z, b2.z), dot4(a1.z, b2.z), dot4(a2.z, b2.z), dot4(a3.z, b2.z));
    s2_0 += vec4i(dot4(a0.w, b2.w), dot4(a1.w, b2.w), dot4(a2.w, b2.w), dot4(a3.w, b2.w));
    let b3 = tileB[(tx + 24u) * 3u + 1u];
    s3_0 += vec4i(dot4(a0.x, b3.x), dot4(a1.x, b3.x), dot4(a2.x, b3.x), dot4(a3.x, b3.x));
    s3_0 += vec4i(dot4(a0.y, b3.y), dot4(a1.y, b3.y), dot4(a2.y, b3.y), dot4(a3.y, b3.y));
    s3_0 += vec4i(dot4(a0.z, b3.z), dot4(a1.z, b3.z), dot4(a2.z, b3.z), dot4(a3.z, b3.z));
    s3_0 += vec4i(dot4(a0.w, b3.w), dot4(a1.w, b3.w), dot4(a2.w, b3.w), dot4(a3.w, b3.w));
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
  }
  let r1 = row0 + ty + 8u;
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
  }
  let r2 = row0 + ty + 16u;
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
  }
  let r3 = row0 + ty + 24u;
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
  }
}
