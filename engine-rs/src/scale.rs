//! Largest magnitude, scale, and quantising of one row of binary32 values.

use crate::simd::*;

/// Rows with a magnitude below 2⁻¹⁰⁰ count as zero: 127/m then stays far from overflow and m/127 from subnormals.
const TINY: f32 = f32::from_bits((127 - 100) << 23);
/// 1.5·2²³: adding it to a value of magnitude ≤ 127 rounds it half to even into the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;
const ROUNDER_BITS: i32 = 0x4B40_0000;

#[inline(always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if a < b {
        b
    } else {
        a
    }
}

/// The largest magnitude of values seen, from their extremes: cheaper than their absolute values, for which compilers
/// make a mask in every turn.
#[derive(Clone, Copy)]
pub struct Extremes {
    max: v128,
    min: v128,
}

impl Extremes {
    #[inline(always)]
    pub fn new() -> Self {
        Self { max: f32x4_splat(0.0), min: f32x4_splat(0.0) }
    }

    #[inline(always)]
    pub fn see(&mut self, v: v128) {
        self.max = f32x4_pmax(self.max, v);
        self.min = f32x4_pmin(self.min, v);
    }

    /// Each lane's largest magnitude.
    #[inline(always)]
    pub fn magnitudes(&self) -> [f32; 4] {
        f32_lanes(f32x4_pmax(self.max, f32x4_sub(f32x4_splat(0.0), self.min)))
    }

    #[inline(always)]
    pub fn magnitude(&self) -> f32 {
        self.magnitudes().into_iter().fold(0.0, larger)
    }
}

/// max |x| over `n` values (0 when empty; a NaN is passed over).
///
/// # Safety
/// `x` is readable for `n` values.
pub unsafe fn absmax(x: *const f32, n: usize) -> f32 {
    let mut seen = Extremes::new();
    for at in 0..n / 4 {
        seen.see(v128_load(x.add(4 * at).cast()));
    }
    (n / 4 * 4..n).fold(seen.magnitude(), |largest, at| larger(largest, (*x.add(at)).abs()))
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
/// With `CUT` = false, inv comes from the row's own largest magnitude, and |y·inv| ≤ 127·(1 + 2⁻²³) rounds to 127 at
/// most. Else the values are cut before rounding, which gives the same, since ±127 are integers and rounding is
/// monotone.
///
/// # Safety
/// `y` is readable and `q` writable for `n` values.
pub unsafe fn quantise<const CUT: bool>(y: *const f32, q: *mut i8, n: usize, inv: f32) {
    let (low, high, factor) = (f32x4_splat(-127.0), f32x4_splat(127.0), f32x4_splat(inv));
    let (rounder, bits) = (f32x4_splat(ROUNDER), i32x4_splat(ROUNDER_BITS));
    let mut at = 0;
    while at + 16 <= n {
        let four = |from: usize| {
            let mut v = f32x4_mul(v128_load(y.add(at + from).cast()), factor);
            if CUT {
                v = f32x4_pmin(f32x4_pmax(low, v), high);
            }
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

/// Quantises one row whose largest magnitude is `own`, or by `tensor_absmax` unless that is negative; returns its scale.
///
/// # Safety
/// As for `quantise`.
pub unsafe fn quantise_row(y: *const f32, q: *mut i8, n: usize, own: f32, tensor_absmax: f32) -> f32 {
    if tensor_absmax < 0.0 {
        let (inv, scale) = scaling(own);
        quantise::<false>(y, q, n, inv);
        return scale;
    }
    let (inv, scale) = scaling(tensor_absmax);
    quantise::<true>(y, q, n, inv);
    scale
}
