//! Kernels over one row (or a few rows) of binary32 values: clamp, EMA, largest magnitude, quantise.
//!
//! Each vector kernel ends with a scalar loop that does the same operations in the same order, so a value does not
//! depend on where in the row it stands. Multiplication and addition are separate operations, never fused.

use crate::simd::*;

/// Parameters of clamp and EMA. With `CLAMP` = false the kernels leave `lo` and `hi` unread.
#[derive(Clone, Copy)]
pub struct Filter {
    pub lo: f32,
    pub hi: f32,
    pub alpha: f32,
}

/// Rows with a magnitude below 2⁻¹⁰⁰ count as zero: 127/m then stays far from overflow and m/127 from subnormals.
const TINY: f32 = f32::from_bits((127 - 100) << 23);
/// 1.5·2²³: adding it to a value of magnitude ≤ 127 rounds it half to even into the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;
const ROUNDER_BITS: i32 = 0x4B40_0000;

/// x ≥ lo keeps x (and the sign of a zero); a NaN fails the comparison and becomes lo.
#[inline(always)]
fn clamp4<const CLAMP: bool>(x: v128, lo: v128, hi: v128) -> v128 {
    if CLAMP {
        return f32x4_pmin(v128_bitselect(x, lo, f32x4_ge(x, lo)), hi);
    }
    x
}

/// One value through the vector operations: LLVM 22 turns a scalar `x >= lo ? x : lo` in a loop it vectorises into
/// `f32x4.pmax`, which gives lo, not x, where both are zeros of different sign.
#[inline(always)]
fn clamp1<const CLAMP: bool>(x: f32, f: Filter) -> f32 {
    if CLAMP {
        return f32_lanes(clamp4::<true>(f32x4_splat(x), f32x4_splat(f.lo), f32x4_splat(f.hi)))[0];
    }
    x
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a < b {
        b
    } else {
        a
    }
}

#[inline(always)]
fn largest_lane(v: v128) -> f32 {
    f32_lanes(v).into_iter().fold(0.0, larger)
}

/// y = clamp(x) over `n` values; returns max |y|. y may be x.
///
/// # Safety
/// `x` is readable and `y` writable for `n` values.
pub unsafe fn clamp(x: *const f32, y: *mut f32, n: usize, f: Filter) -> f32 {
    let (lo, hi) = (f32x4_splat(f.lo), f32x4_splat(f.hi));
    let mut max = [f32x4_splat(0.0); 2];
    let mut at = 0;
    while at + 8 <= n {
        for (half, max) in max.iter_mut().enumerate() {
            let v = clamp4::<true>(v128_load(x.add(at + 4 * half).cast()), lo, hi);
            v128_store(y.add(at + 4 * half).cast(), v);
            *max = f32x4_pmax(*max, f32x4_abs(v));
        }
        at += 8;
    }
    let mut largest = largest_lane(f32x4_pmax(max[0], max[1]));
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
pub unsafe fn ema_step<const CLAMP: bool>(
    x: *const f32,
    before: *const f32,
    y: *mut f32,
    n: usize,
    f: Filter,
) -> f32 {
    let (lo, hi, alpha) = (f32x4_splat(f.lo), f32x4_splat(f.hi), f32x4_splat(f.alpha));
    let mut max = [f32x4_splat(0.0); 2];
    let mut at = 0;
    while at + 8 <= n {
        for (half, max) in max.iter_mut().enumerate() {
            let v = clamp4::<CLAMP>(v128_load(x.add(at + 4 * half).cast()), lo, hi);
            let b = v128_load(before.add(at + 4 * half).cast());
            let v = f32x4_add(b, f32x4_mul(alpha, f32x4_sub(v, b)));
            v128_store(y.add(at + 4 * half).cast(), v);
            *max = f32x4_pmax(*max, f32x4_abs(v));
        }
        at += 8;
    }
    let mut largest = largest_lane(f32x4_pmax(max[0], max[1]));
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
    let (mut state, mut largest) = ([f32x4_splat(0.0); G], [f32x4_splat(0.0); G]);
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
                largest[g] = f32x4_pmax(largest[g], f32x4_abs(*v));
            }
            for (lane, v) in transpose(tile).into_iter().enumerate() {
                v128_store(y.add((4 * g + lane) * n + at).cast(), v);
            }
        }
        at += 4;
    }
    for g in 0..G {
        let (states, maxima) = (f32_lanes(state[g]), f32_lanes(largest[g]));
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

/// max |x| over `n` values (0 when empty; a NaN is passed over).
///
/// # Safety
/// `x` is readable for `n` values.
pub unsafe fn absmax(x: *const f32, n: usize) -> f32 {
    let mut max = f32x4_splat(0.0);
    for at in 0..n / 4 {
        max = f32x4_pmax(max, f32x4_abs(v128_load(x.add(4 * at).cast())));
    }
    (n / 4 * 4..n).fold(largest_lane(max), |largest, at| larger(largest, (*x.add(at)).abs()))
}

/// (inv, scale) for a row of largest magnitude m: (127/m, m/127), or (0, 0) when m < 2⁻¹⁰⁰.
pub fn scaling(m: f32) -> (f32, f32) {
    if m < TINY {
        return (0.0, 0.0);
    }
    (127.0 / m, m / 127.0)
}

/// q = clamp(round_half_even(y·inv), −127, 127) over `n` values.
///
/// Clamping before rounding gives the same, since ±127 are integers and rounding is monotone.
///
/// # Safety
/// `y` is readable and `q` writable for `n` values.
pub unsafe fn quantise(y: *const f32, q: *mut i8, n: usize, inv: f32) {
    let (low, high, factor) = (f32x4_splat(-127.0), f32x4_splat(127.0), f32x4_splat(inv));
    let (rounder, bits) = (f32x4_splat(ROUNDER), i32x4_splat(ROUNDER_BITS));
    let mut at = 0;
    while at + 16 <= n {
        let four = |from: usize| {
            let v = f32x4_mul(v128_load(y.add(at + from).cast()), factor);
            let v = f32x4_pmin(f32x4_pmax(low, v), high);
            i32x4_sub(f32x4_add(v, rounder), bits)
        };
        let (a, b) = (i16x8_narrow_i32x4(four(0), four(4)), i16x8_narrow_i32x4(four(8), four(12)));
        v128_store(q.add(at).cast(), i8x16_narrow_i16x8(a, b));
        at += 16;
    }
    for at in at..n {
        let v = *y.add(at) * inv;
        let v = if v > -127.0 { v } else { -127.0 };
        let v = if v < 127.0 { v } else { 127.0 };
        *q.add(at) = ((v + ROUNDER).to_bits() as i32 - ROUNDER_BITS) as i8;
    }
}
