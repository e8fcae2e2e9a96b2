//! Freivalds' check of C[m,n] = A[m,k]·B[n,k]ᵀ row by row (R. Freivalds, "Probabilistic machines can use less
//! running time", 1977): C·r = A·(Bᵀ·r) modulo p = 2³¹−1 for random vectors r.
//!
//! O(m·k + n·k + m·n) a round. A wrong row passes one round with probability 1/p. A change of C by a multiple of p
//! would pass always, so |C| ≤ k·2¹⁴ is checked first: the true product meets it, and for k ≤ 65,535 two values that
//! meet it differ by less than p. All sums are exact: every bound is noted where the sum is made.

use crate::check::{self, input, output, BAD_ARGUMENT, OUT_OF_MEMORY};
use crate::field::{challenge, fold, reduce};
use crate::project::{project, Task, Vectors};
use crate::simd::*;

/// Rounds done in one pass over the arrays.
const TOGETHER: usize = 2;
/// Steps of eight columns of A between two emptyings: 255·2²³ < 2³¹.
const A_STEPS: usize = 255;

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
