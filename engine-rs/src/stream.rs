//! The steps of pre-execution one by one, and dequantisation (docs/protocol.md §4.3).
//!
//! `preexec.rs` does the same in one pass. Inputs of `ema_f32` and `quantise_f32` are finite; other values are
//! computed without a trap, but what comes out of them is not promised.

use crate::check::{self, input, ok, output, BAD_ARGUMENT};
use crate::rows::{self, Filter};
use crate::scale;
use crate::simd::*;

/// Rows whose EMAs along the row are computed together, in groups of four.
pub const GROUPS: usize = 2;
pub const TOGETHER: usize = 4 * GROUPS;

fn values(rows: u32, cols: u32) -> u64 {
    u64::from(rows) * u64::from(cols)
}

/// x = clamp(x, lo, hi) in place over f32[n]; NaN and −∞ become lo, +∞ becomes hi.
///
/// # Safety
/// `ptr` is writable for `n` values.
#[no_mangle]
pub unsafe extern "C" fn clamp_f32(ptr: *mut f32, n: u32, lo: f32, hi: f32) -> i32 {
    if let Err(code) = check::bounds(lo, hi).and_then(|()| check::regions(&[output(ptr, u64::from(n))])) {
        return code;
    }
    rows::clamp_exact(ptr, n as usize, Filter { lo, hi, alpha: 1.0 });
    ok()
}

/// y_0 = x_0, y_t = y_{t−1} + alpha·(x_t − y_{t−1}) in place over f32[rows·cols], down the rows (axis 0) or along
/// each row (axis 1); axis −1 leaves x as it is. 0 < alpha ≤ 1.
///
/// # Safety
/// `ptr` is writable for `rows·cols` values.
#[no_mangle]
pub unsafe extern "C" fn ema_f32(ptr: *mut f32, rows: u32, cols: u32, axis: i32, alpha: f32) -> i32 {
    let regions = [output(ptr, values(rows, cols))];
    if let Err(code) = check::ema(axis, alpha).and_then(|()| check::regions(&regions)) {
        return code;
    }
    let (rows, cols) = (rows as usize, cols as usize);
    let filter = Filter { lo: 0.0, hi: 0.0, alpha };
    if axis == 0 {
        for row in 1..rows {
            let at = ptr.add(row * cols);
            rows::ema_step::<false>(at, at.sub(cols), at, cols, filter);
        }
    } else if axis == 1 {
        let mut maxima = [0.0; TOGETHER];
        let whole = rows / TOGETHER * TOGETHER;
        for row in (0..whole).step_by(TOGETHER) {
            let at = ptr.add(row * cols);
            rows::ema_along_many::<GROUPS, false>(at, at, cols, filter, maxima.as_mut_ptr());
        }
        for row in whole..rows {
            let at = ptr.add(row * cols);
            rows::ema_along::<false>(at, at, cols, filter);
        }
    }
    ok()
}

/// q i8[rows·cols] and steps (the scales) f32[rows] of x f32[rows·cols]; m is `tensor_absmax` for all rows, or each row's own
/// largest magnitude when that is negative.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
pub unsafe extern "C" fn quantise_f32(
    x: *const f32,
    rows: u32,
    cols: u32,
    tensor_absmax: f32,
    q: *mut i8,
    steps: *mut f32,
) -> i32 {
    let count = values(rows, cols);
    if !tensor_absmax.is_finite() {
        return BAD_ARGUMENT;
    }
    if let Err(code) = check::regions(&[input(x, count), output(q, count), output(steps, u64::from(rows))]) {
        return code;
    }
    let cols = cols as usize;
    for row in 0..rows as usize {
        let at = x.add(row * cols);
        let own = if tensor_absmax < 0.0 { scale::absmax(at, cols) } else { 0.0 };
        *steps.add(row) = scale::quantise_row(at, q.add(row * cols), cols, own, tensor_absmax);
    }
    ok()
}

/// d[i,j] = f32(c[i,j]) · (a_scale[i] · b_scale[j]); c i32[rows·cols], d f32[rows·cols], not overlapping.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
pub unsafe extern "C" fn dequantise_i32(
    c: *const i32,
    rows: u32,
    cols: u32,
    a_scale: *const f32,
    b_scale: *const f32,
    d: *mut f32,
) -> i32 {
    let count = values(rows, cols);
    let scales = [input(a_scale, u64::from(rows)), input(b_scale, u64::from(cols))];
    let [of_a, of_b] = scales;
    if let Err(code) = check::regions(&[input(c, count), of_a, of_b, output(d, count)]) {
        return code;
    }
    let cols = cols as usize;
    for row in 0..rows as usize {
        let (from, to, scale) = (c.add(row * cols), d.add(row * cols), *a_scale.add(row));
        let scales = f32x4_splat(scale);
        for at in (0..cols / 4 * 4).step_by(4) {
            let step = f32x4_mul(scales, v128_load(b_scale.add(at).cast()));
            let value = f32x4_convert_i32x4(v128_load(from.add(at).cast()));
            v128_store(to.add(at).cast(), f32x4_mul(value, step));
        }
        for at in cols / 4 * 4..cols {
            *to.add(at) = *from.add(at) as f32 * (scale * *b_scale.add(at));
        }
    }
    ok()
}
