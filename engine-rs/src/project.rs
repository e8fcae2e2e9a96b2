//! u = Bᵀ·r modulo p for a few vectors r at once: the first half of a Freivalds check.

use crate::field::{balanced, fold, limbs};
use crate::memory::Scratch;
use crate::simd::*;

/// Rows of B between two emptyings of the 32-bit sums: 128 pairs, each at most 2·2⁷·2¹⁵ = 2²³ in magnitude, so that
/// no sum passes 2³⁰.
const B_ROWS: usize = 256;

/// The arrays and sizes of a check.
pub struct Task {
    pub a: *const i8,
    pub b: *const i8,
    pub c: *const i32,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// The vectors of R rounds: r i32[R·n], balanced, and u = Bᵀ·r, balanced, as limbs i16[R·2·k].
pub struct Vectors<const R: usize> {
    r: Scratch<i32>,
    u: Scratch<i16>,
    n: usize,
    k: usize,
}

impl<const R: usize> Vectors<R> {
    pub fn new(n: usize, k: usize) -> Option<Self> {
        Some(Self { r: Scratch::new(n * R)?, u: Scratch::new(k * R * 2)?, n, k })
    }

    #[inline(always)]
    pub unsafe fn r(&self, round: usize) -> *mut i32 {
        self.r.ptr().add(round * self.n)
    }

    #[inline(always)]
    pub unsafe fn u(&self, round: usize, limb: usize) -> *mut i16 {
        self.u.ptr().add((round * 2 + limb) * self.k)
    }
}

/// Adds `PAIRS` pairs of rows of B, each weighted with its r, to the 32-bit sums of u's limbs.
///
/// sums: [chunk of 16 columns][half][round][limb][8 columns]. weights: (r of the first row, r of the second) as i16
/// in one 32-bit lane, for each pair, round and limb.
#[inline(always)]
unsafe fn add_pairs<const R: usize, const PAIRS: usize>(
    rows: [[*const i8; 2]; PAIRS],
    weights: [[[v128; 2]; R]; PAIRS],
    chunks: usize,
    sums: *mut i32,
) {
    for chunk in 0..chunks {
        for half in 0..2 {
            let at = sums.add((chunk * 2 + half) * R * 2 * 8);
            let place = |round: usize, limb: usize, four: usize| at.add((round * 2 + limb) * 8 + four * 4).cast();
            let mut sum = [[[i32x4_splat(0); 2]; 2]; R];
            for (round, limbs) in sum.iter_mut().enumerate() {
                for (limb, fours) in limbs.iter_mut().enumerate() {
                    *fours = [v128_load(place(round, limb, 0)), v128_load(place(round, limb, 1))];
                }
            }
            for pair in 0..PAIRS {
                let [x, y] = rows[pair].map(|row| v128_load(row.add(chunk * 16).cast()));
                let both = if half == 0 {
                    i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(x, y)
                } else {
                    i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(x, y)
                };
                let wide = [i16x8_extend_low_i8x16(both), i16x8_extend_high_i8x16(both)];
                for round in 0..R {
                    for limb in 0..2 {
                        for four in 0..2 {
                            let product = i32x4_dot_i16x8(wide[four], weights[pair][round][limb]);
                            sum[round][limb][four] = i32x4_add(sum[round][limb][four], product);
                        }
                    }
                }
            }
            for (round, limbs) in sum.iter().enumerate() {
                for (limb, fours) in limbs.iter().enumerate() {
                    v128_store(place(round, limb, 0), fours[0]);
                    v128_store(place(round, limb, 1), fours[1]);
                }
            }
        }
    }
}

/// The weights of rows `row` and `row + 1` (0 past the end).
unsafe fn pair_weights<const R: usize>(vectors: &Vectors<R>, row: usize) -> [[v128; 2]; R] {
    core::array::from_fn(|round| {
        let first = limbs(*vectors.r(round).add(row));
        let second = if row + 1 < vectors.n { limbs(*vectors.r(round).add(row + 1)) } else { (0, 0) };
        let lane = |low: i16, high: i16| i32x4_splat((i32::from(high) << 16) | (i32::from(low) & 0xFFFF));
        [lane(first.0, second.0), lane(first.1, second.1)]
    })
}

/// u = Bᵀ·r.
pub unsafe fn project<const R: usize>(task: &Task, vectors: &Vectors<R>) -> Option<()> {
    let (n, k, chunks) = (task.n, task.k, task.k / 16);
    let sums = Scratch::<i32>::zeroed(chunks * 16 * 2 * R)?;
    let totals = Scratch::<i64>::zeroed(k * R)?;
    for top in (0..n).step_by(B_ROWS) {
        let end = n.min(top + B_ROWS);
        let pair = |row: usize| {
            let second = if row + 1 < n { row + 1 } else { row };
            [task.b.add(row * k), task.b.add(second * k)]
        };
        let mut row = top;
        while row + 8 <= end {
            let rows = [row, row + 2, row + 4, row + 6];
            add_pairs::<R, 4>(rows.map(pair), rows.map(|row| pair_weights(vectors, row)), chunks, sums.ptr());
            row += 8;
        }
        while row < end {
            add_pairs::<R, 1>([pair(row)], [pair_weights(vectors, row)], chunks, sums.ptr());
            row += 2;
        }
        for round in 0..R {
            let total = totals.ptr().add(round * k);
            for column in 0..chunks * 16 {
                let place = sums.ptr().add((column / 8 * R + round) * 16 + column % 8);
                let (low, high) = (i64::from(*place), i64::from(*place.add(8)));
                *total.add(column) = fold(*total.add(column) + low + (high << 16));
                (*place, *place.add(8)) = (0, 0);
            }
            for column in chunks * 16..k {
                // 256 terms of 2⁷·2³⁰ each.
                let r = vectors.r(round);
                let term = |row: usize| i64::from(*task.b.add(row * k + column)) * i64::from(*r.add(row));
                let sum: i64 = (top..end).map(term).sum();
                *total.add(column) = fold(*total.add(column) + sum);
            }
        }
    }
    for round in 0..R {
        for column in 0..k {
            let (low, high) = limbs(balanced(*totals.ptr().add(round * k + column)));
            *vectors.u(round, 0).add(column) = low;
            *vectors.u(round, 1).add(column) = high;
        }
    }
    Some(())
}
