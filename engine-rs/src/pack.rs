//! Packing of int8 rows into i16 strips, the layout that `matmul.rs` reads from front to back.
//!
//! A strip holds `width` rows (fewer rows are filled up with zeros). For each pair of neighbouring columns it holds
//! the pairs of all rows: `strip[pair][row][2]`. One 32-bit lane so is one row's pair, which is what
//! `i32x4.dot_i16x8_s` multiplies and adds. An odd column count is filled up with one zero.

use crate::simd::{i32_lanes, load_i8x8};

/// Pairs of columns in `k` columns.
pub fn pairs(k: usize) -> usize {
    k.div_ceil(2)
}

/// Two int8 as one 32-bit lane of two i16, the first in the low half.
#[inline(always)]
fn lane(first: i8, second: i8) -> i32 {
    (i32::from(second) << 16) | (i32::from(first) & 0xFFFF)
}

/// Packs `rows` ≤ `width` rows of `k` columns, `stride` bytes apart, into `strip` (i32[pairs(k) · width]).
///
/// # Safety
/// `src` is readable for those rows, `strip` is writable for pairs(k)·width values and does not overlap it.
pub unsafe fn pack_strip(src: *const i8, stride: usize, rows: usize, k: usize, width: usize, strip: *mut i32) {
    for row in 0..width {
        let mut to = strip.add(row);
        if row >= rows {
            for _ in 0..pairs(k) {
                to.write(0);
                to = to.add(width);
            }
            continue;
        }
        let from = src.add(row * stride);
        let mut column = 0;
        while column + 8 <= k {
            for value in i32_lanes(load_i8x8(from.add(column))) {
                to.write(value);
                to = to.add(width);
            }
            column += 8;
        }
        while column < k {
            let second = if column + 1 < k { *from.add(column + 1) } else { 0 };
            to.write(lane(*from.add(column), second));
            to = to.add(width);
            column += 2;
        }
    }
}
