//! C[m,n] = A[m,k] · B[n,k]ᵀ, int8 × int8 → int32, exact.
//!
//! Loop order after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): B is packed in
//! panels of NR rows, A in strips of MR rows, and a register tile of MR×NR sums runs over one block of KC columns.
//! A panel stays in the first-level cache while the strips of an A block stream past it from the second level.
//!
//! The tile is low and wide. Cranelift places all loads of a loop body before its arithmetic, folds none into it, and
//! needs two operations to repeat a lane: 2×16 (8 sums, 4 vectors of B, 2 repeated lanes of A) fits the registers of
//! x86-64 and repeats least. Taller tiles spilled their sums and lost up to a third.

use crate::check::{self, input, ok, output, OUT_OF_MEMORY, TOO_LARGE};
use crate::memory::Scratch;
use crate::pack::{pack_strip, pairs};
use crate::simd::*;

/// Rows of a register tile.
const MR: usize = 2;
/// Vectors in a row of a register tile.
const GROUPS: usize = 4;
/// Columns of a register tile (rows of B in a panel). The last panel is as wide as it needs, in steps of four.
const NR: usize = 4 * GROUPS;
/// Columns of A and B in one block; even, so that only the last block can hold a half pair.
const KC: usize = 1024;
/// Rows of A packed at once, a multiple of MR.
const MC: usize = 48;
/// Rows of B packed at once when the caller did not pack B, a multiple of NR: bounds the scratch to NC·KC·2 bytes.
const NC: usize = 768;

/// Where one tile's results go: `columns` ≤ NR of `c`, rows `stride` values apart.
#[derive(Clone, Copy)]
struct Target {
    c: *mut i32,
    stride: usize,
    columns: usize,
    accumulate: bool,
}

/// One register tile: R rows of a strip times a panel of 4·G rows of B, over `count` pairs of columns.
#[inline(always)]
unsafe fn tile<const R: usize, const G: usize>(count: usize, strip: *const i32, panel: *const i32, to: Target) {
    let (mut strip, mut panel) = (strip, panel);
    let mut sums = [[i32x4_splat(0); G]; R];
    for _ in 0..count {
        let b: [v128; G] = core::array::from_fn(|group| v128_load(panel.add(group * 4).cast()));
        for (row, sum) in sums.iter_mut().enumerate() {
            let a = v128_load32_splat(strip.add(row).cast());
            for (group, sum) in sum.iter_mut().enumerate() {
                *sum = i32x4_add(*sum, i32x4_dot_i16x8(a, b[group]));
            }
        }
        panel = panel.add(4 * G);
        strip = strip.add(R);
    }
    for (row, sum) in sums.into_iter().enumerate() {
        for (group, value) in sum.into_iter().enumerate() {
            store(value, to.c.add(row * to.stride + group * 4), to.columns - group * 4, to.accumulate);
        }
    }
}

/// Writes (or adds) the first `columns` of four values at `c`.
#[inline(always)]
unsafe fn store(sum: v128, c: *mut i32, columns: usize, accumulate: bool) {
    if columns >= 4 {
        let value = if accumulate { i32x4_add(sum, v128_load(c.cast())) } else { sum };
        v128_store(c.cast(), value);
        return;
    }
    for (column, value) in i32_lanes(sum).into_iter().enumerate().take(columns) {
        let before = if accumulate { *c.add(column) } else { 0 };
        *c.add(column) = before + value;
    }
}

/// A tile of `rows` ≤ MR rows and as many columns as the panel has.
unsafe fn any_tile(rows: usize, count: usize, strip: *const i32, panel: *const i32, to: Target) {
    match (rows, panel_width(to.columns) / 4) {
        (MR, GROUPS) => tile::<MR, GROUPS>(count, strip, panel, to),
        (MR, 3) => tile::<MR, 3>(count, strip, panel, to),
        (MR, 2) => tile::<MR, 2>(count, strip, panel, to),
        (MR, _) => tile::<MR, 1>(count, strip, panel, to),
        (_, GROUPS) => tile::<1, GROUPS>(count, strip, panel, to),
        (_, 3) => tile::<1, 3>(count, strip, panel, to),
        (_, 2) => tile::<1, 2>(count, strip, panel, to),
        (_, _) => tile::<1, 1>(count, strip, panel, to),
    }
}

/// Rows in a panel when `left` rows of B are left.
fn panel_width(left: usize) -> usize {
    NR.min(left.next_multiple_of(4))
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
        pack_strip(b.add(row * stride), stride, NR.min(n - row), width, panel_width(n - row), to);
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
    let panel_rows = NC.min(shape.n.next_multiple_of(4));
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

/// Bytes that `pack_b` writes: ⌈n/4⌉·4 · ⌈k/2⌉·2 · 2; 0 where that reaches 2³¹ or k > 65,535.
#[no_mangle]
pub extern "C" fn packed_size(n: u32, k: u32) -> u32 {
    let bytes = u64::from(n).next_multiple_of(4) * u64::from(k).next_multiple_of(2) * 2;
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
        let at = packed.add(n.next_multiple_of(4) * (from / 2));
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
        let panels = packed.add(shape.n.next_multiple_of(4) * (from / 2));
        let to = Target { c, stride: shape.n, columns: NR, accumulate: from > 0 };
        block(a.add(from), shape, KC.min(shape.k - from), panels, strips.ptr(), to);
    }
    ok()
}
