//! C[m,n] = A[m,k] · B[n,k]ᵀ, int8 × int8 → int32, exact.
//!
//! Loop order after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): B is packed in
//! panels of NR rows, A in strips of MR rows, and a register tile of MR×NR sums runs over one block of KC columns.
//! A panel stays in the first-level cache while the strips of an A block stream past it from the second level.

use crate::check::{self, input, ok, output, OUT_OF_MEMORY, TOO_LARGE};
use crate::memory::Scratch;
use crate::pack::{pack_strip, pairs};
use crate::simd::{i32x4_add, i32x4_dot_i16x8, i32x4_splat, v128_load, v128_load32_splat, v128_store};

/// Rows of a register tile. MR·NR/4 sums, NR/4 B vectors, one A vector and one product fill 16 vector registers.
const MR: usize = 6;
/// Columns of a register tile (rows of B in a panel).
pub const NR: usize = 8;
/// Columns of A and B in one block; even, so that only the last block can hold a half pair.
const KC: usize = 1024;
/// Rows of A packed at once, a multiple of MR.
const MC: usize = 96;
/// Rows of B packed at once when the caller did not pack B, a multiple of NR: bounds the scratch to NC·KC·2 bytes.
const NC: usize = 1024;

/// Where one tile's results go: `columns` ≤ NR of `c`, rows `stride` values apart.
#[derive(Clone, Copy)]
struct Target {
    c: *mut i32,
    stride: usize,
    columns: usize,
    accumulate: bool,
}

/// One register tile: R rows of a strip times one panel, over `count` pairs.
#[inline(always)]
unsafe fn tile<const R: usize>(count: usize, mut strip: *const i32, mut panel: *const i32, to: Target) {
    let mut sums = [[i32x4_splat(0); NR / 4]; R];
    for _ in 0..count {
        let b = [v128_load(panel.cast()), v128_load(panel.add(4).cast())];
        for (row, sum) in sums.iter_mut().enumerate() {
            let a = v128_load32_splat(strip.add(row).cast());
            sum[0] = i32x4_add(sum[0], i32x4_dot_i16x8(a, b[0]));
            sum[1] = i32x4_add(sum[1], i32x4_dot_i16x8(a, b[1]));
        }
        panel = panel.add(NR);
        strip = strip.add(R);
    }
    for (row, sum) in sums.iter().enumerate() {
        store_row(*sum, to.c.add(row * to.stride), to);
    }
}

/// Writes (or adds) one row of a tile; a narrow tile goes through a full-width row beside C.
#[inline(always)]
unsafe fn store_row(sum: [crate::simd::v128; NR / 4], c: *mut i32, to: Target) {
    if to.columns == NR {
        for (half, value) in sum.iter().enumerate() {
            let at = c.add(half * 4).cast();
            let value = if to.accumulate { i32x4_add(*value, v128_load(at)) } else { *value };
            v128_store(at, value);
        }
        return;
    }
    let mut row = [0i32; NR];
    v128_store(row.as_mut_ptr().cast(), sum[0]);
    v128_store(row.as_mut_ptr().add(4).cast(), sum[1]);
    for (column, value) in row.iter().enumerate().take(to.columns) {
        let before = if to.accumulate { *c.add(column) } else { 0 };
        *c.add(column) = before + value;
    }
}

unsafe fn any_tile(rows: usize, count: usize, strip: *const i32, panel: *const i32, to: Target) {
    match rows {
        6 => tile::<6>(count, strip, panel, to),
        5 => tile::<5>(count, strip, panel, to),
        4 => tile::<4>(count, strip, panel, to),
        3 => tile::<3>(count, strip, panel, to),
        2 => tile::<2>(count, strip, panel, to),
        _ => tile::<1>(count, strip, panel, to),
    }
}

/// The shape of a product, in elements.
#[derive(Clone, Copy)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
}

/// Packs rows `0..n` and columns `from..from+width` of B into panels.
unsafe fn pack_panels(b: *const i8, stride: usize, n: usize, width: usize, packed: *mut i32) {
    for (panel, row) in (0..n).step_by(NR).enumerate() {
        let to = packed.add(panel * NR * pairs(width));
        pack_strip(b.add(row * stride), stride, NR.min(n - row), width, NR, to);
    }
}

/// All rows of A times the packed panels of one block of `width` columns.
unsafe fn block(a: *const i8, shape: Shape, width: usize, panels: *const i32, strips: *mut i32, to: Target) {
    let count = pairs(width);
    for top in (0..shape.m).step_by(MC) {
        let height = MC.min(shape.m - top);
        for row in (0..height).step_by(MR) {
            let rows = MR.min(height - row);
            pack_strip(a.add((top + row) * shape.k), shape.k, rows, width, rows, strips.add(row * count));
        }
        for (panel, left) in (0..shape.n).step_by(NR).enumerate() {
            for row in (0..height).step_by(MR) {
                let c = to.c.add((top + row) * to.stride + left);
                let target = Target { c, columns: NR.min(shape.n - left), ..to };
                let strip = strips.add(row * count);
                any_tile(MR.min(height - row), count, strip, panels.add(panel * NR * count), target);
            }
        }
    }
}

fn strip_scratch(shape: Shape) -> Option<Scratch<i32>> {
    Scratch::new(MC.min(shape.m) * pairs(KC.min(shape.k)))
}

unsafe fn clear(c: *mut i32, shape: Shape) -> i32 {
    if shape.m * shape.n > 0 {
        c.write_bytes(0, shape.m * shape.n);
    }
    ok()
}

fn check_product(a: *const i8, b: impl FnOnce() -> check::Region, c: *mut i32, s: [u32; 3]) -> Result<Shape, i32> {
    let [m, n, k] = s;
    check::inner_length(k)?;
    let (mw, nw, kw) = (u64::from(m), u64::from(n), u64::from(k));
    check::regions(&[input(a, mw * kw), b(), output(c, mw * nw)])?;
    Ok(Shape { m: m as usize, n: n as usize, k: k as usize })
}

/// C = A·Bᵀ. a: i8[m·k], b: i8[n·k], c: i32[m·n] (4-aligned), row-major; c overlaps neither. k ≤ 65,535.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
pub unsafe extern "C" fn matmul_i8(a: *const i8, b: *const i8, c: *mut i32, m: u32, n: u32, k: u32) -> i32 {
    let region = || input(b, u64::from(n) * u64::from(k));
    let shape = match check_product(a, region, c, [m, n, k]) {
        Ok(shape) => shape,
        Err(code) => return code,
    };
    if shape.m == 0 || shape.n == 0 || shape.k == 0 {
        return clear(c, shape);
    }
    let panel_rows = NC.min(shape.n.next_multiple_of(NR));
    let panels = Scratch::<i32>::new(panel_rows * pairs(KC.min(shape.k)));
    let (Some(panels), Some(strips)) = (panels, strip_scratch(shape)) else { return OUT_OF_MEMORY };
    for left in (0..shape.n).step_by(NC) {
        let part = Shape { n: NC.min(shape.n - left), ..shape };
        for from in (0..shape.k).step_by(KC) {
            let width = KC.min(shape.k - from);
            pack_panels(b.add(left * shape.k + from), shape.k, part.n, width, panels.ptr());
            let to = Target { c: c.add(left), stride: shape.n, columns: NR, accumulate: from > 0 };
            block(a.add(from), part, width, panels.ptr(), strips.ptr(), to);
        }
    }
    ok()
}

/// Bytes that `pack_b` writes: ⌈n/8⌉·8 · ⌈k/2⌉·2 · 2; 0 where that reaches 2³¹ or k > 65,535.
#[no_mangle]
pub extern "C" fn packed_size(n: u32, k: u32) -> u32 {
    let bytes = u64::from(n).next_multiple_of(NR as u64) * u64::from(k).next_multiple_of(2) * 2;
    if check::inner_length(k).is_err() || bytes >= 1 << 31 {
        return 0;
    }
    bytes as u32
}

/// Prepares B i8[n·k] for `matmul_i8_packed`. packed: packed_size(n, k) bytes, 4-aligned, not overlapping b.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
pub unsafe extern "C" fn pack_b(b: *const i8, n: u32, k: u32, packed: *mut i32) -> i32 {
    let bytes = packed_size(n, k);
    if bytes == 0 && n > 0 && k > 0 {
        return TOO_LARGE;
    }
    let list = [input(b, u64::from(n) * u64::from(k)), output(packed, u64::from(bytes) / 4)];
    if let Err(code) = check::regions(&list) {
        return code;
    }
    let (n, k) = (n as usize, k as usize);
    for from in (0..k).step_by(KC) {
        // KC is even, so whole blocks before this one hold exactly from/2 pairs a row.
        let at = packed.add(n.next_multiple_of(NR) * (from / 2));
        pack_panels(b.add(from), k, n, KC.min(k - from), at);
    }
    ok()
}

/// C = A·Bᵀ with B from `pack_b(b, n, k, …)`; otherwise as `matmul_i8`.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
pub unsafe extern "C" fn matmul_i8_packed(
    a: *const i8,
    packed: *const i32,
    c: *mut i32,
    m: u32,
    n: u32,
    k: u32,
) -> i32 {
    let bytes = packed_size(n, k);
    if bytes == 0 && n > 0 && k > 0 {
        return TOO_LARGE;
    }
    let shape = match check_product(a, || input(packed, u64::from(bytes) / 4), c, [m, n, k]) {
        Ok(shape) => shape,
        Err(code) => return code,
    };
    if shape.m == 0 || shape.n == 0 || shape.k == 0 {
        return clear(c, shape);
    }
    let Some(strips) = strip_scratch(shape) else { return OUT_OF_MEMORY };
    for from in (0..shape.k).step_by(KC) {
        let panels = packed.add(shape.n.next_multiple_of(NR) * (from / 2));
        let to = Target { c, stride: shape.n, columns: NR, accumulate: from > 0 };
        block(a.add(from), shape, KC.min(shape.k - from), panels, strips.ptr(), to);
    }
    ok()
}
