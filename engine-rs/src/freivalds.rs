//! Freivalds' check of C[m,n] = A[m,k]·B[n,k]ᵀ row by row (R. Freivalds, "Probabilistic machines can use less
//! running time", 1977): C·r = A·(Bᵀ·r) modulo p = 2³¹−1 for random vectors r.
//!
//! O(m·k + n·k + m·n) a round. A wrong row passes one round with probability 1/p. A change of C by a multiple of p
//! would pass always, so |C| ≤ k·2¹⁴ is checked first: the true product meets it, and for k ≤ 65,535 two values that
//! meet it differ by less than p. All sums are exact: every bound is noted where the sum is made.

use crate::check::{self, input, output, BAD_ARGUMENT, OUT_OF_MEMORY};
use crate::field::{balanced, challenge, fold, limbs, reduce};
use crate::memory::Scratch;
use crate::simd::*;

/// Rounds done in one pass over the arrays.
const TOGETHER: usize = 2;
/// Rows of B between two emptyings of the 32-bit sums: 128 pairs, each at most 2·2⁷·2¹⁵ = 2²³ in magnitude, so that
/// no sum passes 2³⁰.
const B_ROWS: usize = 256;
/// Steps of eight columns of A between two emptyings: 255·2²³ < 2³¹.
const A_STEPS: usize = 255;

struct Task {
    a: *const i8,
    b: *const i8,
    c: *const i32,
    m: usize,
    n: usize,
    k: usize,
}

/// The vectors of R rounds: r i32[R·n], balanced, and u = Bᵀ·r, balanced, as limbs i16[R·2·k].
struct Vectors<const R: usize> {
    r: Scratch<i32>,
    u: Scratch<i16>,
    n: usize,
    k: usize,
}

impl<const R: usize> Vectors<R> {
    fn new(n: usize, k: usize) -> Option<Self> {
        Some(Self { r: Scratch::new(n * R)?, u: Scratch::new(k * R * 2)?, n, k })
    }

    #[inline(always)]
    unsafe fn r(&self, round: usize) -> *mut i32 {
        self.r.ptr().add(round * self.n)
    }

    #[inline(always)]
    unsafe fn u(&self, round: usize, limb: usize) -> *mut i16 {
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
unsafe fn project<const R: usize>(task: &Task, vectors: &Vectors<R>) -> Option<()> {
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

/// One row of A times u, modulo p.
unsafe fn dot_a<const R: usize>(row: *const i8, k: usize, vectors: &Vectors<R>) -> [i64; R] {
    let mut totals = [[0i64; 2]; R];
    let steps = k / 8;
    for from in (0..steps).step_by(A_STEPS) {
        let mut sums = [[i32x4_splat(0); 2]; R];
        for step in from..steps.min(from + A_STEPS) {
            let a = load_i8x8(row.add(step * 8));
            for round in 0..R {
                for limb in 0..2 {
                    let u = v128_load(vectors.u(round, limb).add(step * 8).cast());
                    sums[round][limb] = i32x4_add(sums[round][limb], i32x4_dot_i16x8(a, u));
                }
            }
        }
        for round in 0..R {
            for limb in 0..2 {
                totals[round][limb] += i32_lanes(sums[round][limb]).into_iter().map(i64::from).sum::<i64>();
            }
        }
    }
    core::array::from_fn(|round| {
        for column in steps * 8..k {
            for limb in 0..2 {
                let u = *vectors.u(round, limb).add(column);
                totals[round][limb] += i64::from(*row.add(column)) * i64::from(u);
            }
        }
        // |totals| ≤ 65,535·2²², so the shifted one stays below 2⁵⁵.
        reduce(totals[round][0] + (totals[round][1] << 16))
    })
}

/// One row of C times r, modulo p, and the row's largest magnitude (as u32, so that −2³¹ counts as 2³¹).
///
/// `steps_max` terms of |C|·|r| ≤ k·2¹⁴·2³⁰ fit a 64-bit lane. Where C is beyond its bound the sums may wrap, and
/// the row is refused for its magnitude.
unsafe fn dot_c<const R: usize>(row: *const i32, n: usize, vectors: &Vectors<R>, steps_max: usize) -> ([i64; R], u32) {
    let mut totals = [0i64; R];
    let mut magnitude = i32x4_splat(0);
    let steps = n / 4;
    for from in (0..steps).step_by(steps_max) {
        let mut sums = [[i64x2_splat(0); 2]; R];
        for step in from..steps.min(from + steps_max) {
            let c = v128_load(row.add(step * 4).cast());
            magnitude = u32x4_max(magnitude, i32x4_abs(c));
            for round in 0..R {
                let r = v128_load(vectors.r(round).add(step * 4).cast());
                sums[round][0] = i64x2_add(sums[round][0], i64x2_extmul_low_i32x4(c, r));
                sums[round][1] = i64x2_add(sums[round][1], i64x2_extmul_high_i32x4(c, r));
            }
        }
        for round in 0..R {
            for sum in sums[round] {
                totals[round] += i64_lanes(sum).into_iter().map(fold).sum::<i64>();
            }
        }
    }
    let mut largest = i32_lanes(magnitude).into_iter().fold(0, |max, lane| max.max(lane as u32));
    for column in steps * 4..n {
        let value = *row.add(column);
        largest = largest.max(value.unsigned_abs());
        for round in 0..R {
            totals[round] += fold(i64::from(value) * i64::from(*vectors.r(round).add(column)));
        }
    }
    (totals.map(reduce), largest)
}

/// Does rounds `first..first + R`, marking wrong rows in `bad`.
unsafe fn rounds<const R: usize>(task: &Task, seed: &[u8; 32], first: u32, bad: *mut u8) -> Option<()> {
    let vectors = Vectors::<R>::new(task.n, task.k)?;
    for round in 0..R {
        challenge(seed, first + round as u32, vectors.r(round), task.n);
    }
    project(task, &vectors)?;
    let bound = (task.k as u64) << 14;
    let steps_max = (i64::MAX as u64 / (bound.max(1) << 30)).min(4096) as usize;
    for row in 0..task.m {
        let (right, magnitude) = dot_c(task.c.add(row * task.n), task.n, &vectors, steps_max);
        let left = dot_a(task.a.add(row * task.k), task.k, &vectors);
        if u64::from(magnitude) > bound || left != right {
            *bad.add(row) = 1;
        }
    }
    Some(())
}

/// Checks C = A·Bᵀ. a i8[m·k], b i8[n·k], c i32[m·n]; seed: 32 random bytes that were secret until C was fixed.
///
/// Sets bad_rows[i] (u8[m]) to 1 where C's row i is wrong, else to 0, and returns how many are wrong. A right row is
/// never refused; a wrong one is missed with probability at most p^−rounds. rounds ≥ 1, k ≤ 65,535.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn freivalds_i8(
    a: *const i8,
    b: *const i8,
    c: *const i32,
    m: u32,
    n: u32,
    k: u32,
    seed: *const u8,
    rounds: u32,
    bad_rows: *mut u8,
) -> i32 {
    if rounds == 0 {
        return BAD_ARGUMENT;
    }
    let (mw, nw, kw) = (u64::from(m), u64::from(n), u64::from(k));
    let regions =
        [input(a, mw * kw), input(b, nw * kw), input(c, mw * nw), input(seed, 32), output(bad_rows, u64::from(m))];
    if let Err(code) = check::inner_length(k).and_then(|()| check::regions(&regions)) {
        return code;
    }
    let task = Task { a, b, c, m: m as usize, n: n as usize, k: k as usize };
    let seed = &*seed.cast::<[u8; 32]>();
    for row in 0..task.m {
        *bad_rows.add(row) = 0;
    }
    for first in (0..rounds).step_by(TOGETHER) {
        let done = match rounds - first {
            1 => self::rounds::<1>(&task, seed, first, bad_rows),
            _ => self::rounds::<TOGETHER>(&task, seed, first, bad_rows),
        };
        if done.is_none() {
            return OUT_OF_MEMORY;
        }
    }
    (0..task.m).map(|row| i32::from(*bad_rows.add(row))).sum()
}
