//! Clamp and EMA over one row (or a few rows) of binary32 values.
//!
//! Each vector kernel ends with a scalar loop that does the same operations in the same order, so a value does not
//! depend on where in the row it stands. Multiplication and addition are separate operations, never fused.

use crate::scale::{larger, Extremes};
use crate::simd::*;

/// Parameters of clamp and EMA. With `CLAMP` = false the kernels leave `lo` and `hi` unread.
#[derive(Clone, Copy)]
pub struct Filter {
    pub lo: f32,
    pub hi: f32,
    pub alpha: f32,
}

/// Clamp inside a fused pass, where −0 and +0 need no telling apart: a NaN fails `lo < x` and becomes lo.
#[inline(always)]
fn clamp4<const CLAMP: bool>(x: v128, lo: v128, hi: v128) -> v128 {
    if CLAMP {
        return f32x4_pmin(f32x4_pmax(lo, x), hi);
    }
    x
}

#[inline(always)]
fn clamp1<const CLAMP: bool>(x: f32, f: Filter) -> f32 {
    if !CLAMP {
        return x;
    }
    let raised = if f.lo < x { x } else { f.lo };
    if f.hi < raised {
        f.hi
    } else {
        raised
    }
}

/// Clamp of one vector, keeping the sign of a zero: x ≥ lo keeps x, and a NaN fails the comparison.
#[inline(always)]
fn clamp_exact4(x: v128, lo: v128, hi: v128) -> v128 {
    f32x4_pmin(v128_bitselect(x, lo, f32x4_ge(x, lo)), hi)
}

/// x = clamp(x) in place over `n` values.
///
/// # Safety
/// `x` is writable for `n` values.
pub unsafe fn clamp_exact(x: *mut f32, n: usize, f: Filter) {
    let (lo, hi) = (f32x4_splat(f.lo), f32x4_splat(f.hi));
    for at in (0..n / 4 * 4).step_by(4) {
        let place = x.add(at).cast();
        v128_store(place, clamp_exact4(v128_load(place), lo, hi));
    }
    for at in n / 4 * 4..n {
        // Through the vector operations too: LLVM 22 turns a scalar `x >= lo ? x : lo` in a loop that it vectorises
        // into `f32x4.pmax`, which gives lo, not x, where both are zeros of different sign.
        *x.add(at) = f32_lanes(clamp_exact4(f32x4_splat(*x.add(at)), lo, hi))[0];
    }
}

/// y = clamp(x) over `n` values, up to the sign of zeros; returns max |y|.
///
/// # Safety
/// `x` is readable and `y` writable for `n` values.
pub unsafe fn clamp(x: *const f32, y: *mut f32, n: usize, f: Filter) -> f32 {
    let (lo, hi) = (f32x4_splat(f.lo), f32x4_splat(f.hi));
    let mut seen = [Extremes::new(); 2];
    let mut at = 0;
    while at + 8 <= n {
        for (half, seen) in seen.iter_mut().enumerate() {
            let v = clamp4::<true>(v128_load(x.add(at + 4 * half).cast()), lo, hi);
            v128_store(y.add(at + 4 * half).cast(), v);
            seen.see(v);
        }
        at += 8;
    }
    let mut largest = larger(seen[0].magnitude(), seen[1].magnitude());
    for at in at..n {
        let v = clamp1::<true>(*x.add(at), f);
        *y.add(at) = v;
        largest = larger(largest, v.abs());
    }
    largest
}

/// y = before + alpha·(clamp(x) − before), one step of an EMA down the rows; returns max |y|.
/// y may be x or `before`.
///
/// # Safety
/// The rows are readable and writable for `n` values.
pub unsafe fn ema_step<const CLAMP: bool>(x: *const f32, before: *const f32, y: *mut f32, n: usize, f: Filter) -> f32 {
    let (lo, hi, alpha) = (f32x4_splat(f.lo), f32x4_splat(f.hi), f32x4_splat(f.alpha));
    let mut seen = [Extremes::new(); 2];
    let mut at = 0;
    while at + 8 <= n {
        for (half, seen) in seen.iter_mut().enumerate() {
            let v = clamp4::<CLAMP>(v128_load(x.add(at + 4 * half).cast()), lo, hi);
            let b = v128_load(before.add(at + 4 * half).cast());
            let v = f32x4_add(b, f32x4_mul(alpha, f32x4_sub(v, b)));
            v128_store(y.add(at + 4 * half).cast(), v);
            seen.see(v);
        }
        at += 8;
    }
    let mut largest = larger(seen[0].magnitude(), seen[1].magnitude());
    for at in at..n {
        let b = *before.add(at);
        let v = b + f.alpha * (clamp1::<CLAMP>(*x.add(at), f) - b);
        *y.add(at) = v;
        largest = larger(largest, v.abs());
    }
    largest
}

/// The EMA along one row; returns max |y|. y may be x.
///
/// # Safety
/// `x` is readable and `y` writable for `n` values.
pub unsafe fn ema_along<const CLAMP: bool>(x: *const f32, y: *mut f32, n: usize, f: Filter) -> f32 {
    let (mut state, mut largest) = (0.0, 0.0);
    for at in 0..n {
        let v = clamp1::<CLAMP>(*x.add(at), f);
        state = if at == 0 { v } else { state + f.alpha * (v - state) };
        *y.add(at) = state;
        largest = larger(largest, state.abs());
    }
    largest
}

/// Four rows of four values to four columns, or back.
#[inline(always)]
fn transpose(r: [v128; 4]) -> [v128; 4] {
    let a = i32x4_shuffle::<0, 4, 1, 5>(r[0], r[1]);
    let b = i32x4_shuffle::<2, 6, 3, 7>(r[0], r[1]);
    let c = i32x4_shuffle::<0, 4, 1, 5>(r[2], r[3]);
    let d = i32x4_shuffle::<2, 6, 3, 7>(r[2], r[3]);
    [
        i32x4_shuffle::<0, 1, 4, 5>(a, c),
        i32x4_shuffle::<2, 3, 6, 7>(a, c),
        i32x4_shuffle::<0, 1, 4, 5>(b, d),
        i32x4_shuffle::<2, 3, 6, 7>(b, d),
    ]
}

/// The EMA along 4·G rows at once, rows `n` values apart in x and y; writes each row's max |y| to `max`.
///
/// One row is a chain of dependent operations. Four rows share a vector (a lane each, by transposing 4×4 tiles) and
/// G vectors take turns, which hides the chain's latency. y may be x.
///
/// # Safety
/// `x` is readable and `y` writable for 4·G·n values, `max` is writable for 4·G.
pub unsafe fn ema_along_many<const G: usize, const CLAMP: bool>(
    x: *const f32,
    y: *mut f32,
    n: usize,
    f: Filter,
    max: *mut f32,
) {
    let (lo, hi, alpha) = (f32x4_splat(f.lo), f32x4_splat(f.hi), f32x4_splat(f.alpha));
    let (mut state, mut seen) = ([f32x4_splat(0.0); G], [Extremes::new(); G]);
    let mut at = 0;
    while at + 4 <= n {
        for g in 0..G {
            let row = |lane: usize| x.add((4 * g + lane) * n + at);
            let mut tile = [0, 1, 2, 3].map(|lane| clamp4::<CLAMP>(v128_load(row(lane).cast()), lo, hi));
            tile = transpose(tile);
            for (step, v) in tile.iter_mut().enumerate() {
                if at + step > 0 {
                    *v = f32x4_add(state[g], f32x4_mul(alpha, f32x4_sub(*v, state[g])));
                }
                state[g] = *v;
                seen[g].see(*v);
            }
            for (lane, v) in transpose(tile).into_iter().enumerate() {
                v128_store(y.add((4 * g + lane) * n + at).cast(), v);
            }
        }
        at += 4;
    }
    for g in 0..G {
        let (states, maxima) = (f32_lanes(state[g]), seen[g].magnitudes());
        for lane in 0..4 {
            let (mut state, mut largest) = (states[lane], maxima[lane]);
            let row = (4 * g + lane) * n;
            for at in at..n {
                let v = clamp1::<CLAMP>(*x.add(row + at), f);
                state = if at == 0 { v } else { state + f.alpha * (v - state) };
                *y.add(row + at) = state;
                largest = larger(largest, state.abs());
            }
            *max.add(4 * g + lane) = largest;
        }
    }
}
