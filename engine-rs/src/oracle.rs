//! What the kernels compute, one value at a time and without vectors: the reference for `cargo test`.

use crate::field::P;

/// C[m,n] = A[m,k]·B[n,k]ᵀ.
pub fn matmul(a: &[i8], b: &[i8], m: usize, n: usize, k: usize) -> Vec<i32> {
    let product = |row: usize, column: usize| -> i32 {
        (0..k).map(|at| i32::from(a[row * k + at]) * i32::from(b[column * k + at])).sum()
    };
    (0..m * n).map(|at| product(at / n, at % n)).collect()
}

/// x < lo → lo, x > hi → hi, NaN → lo.
pub fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    if x.is_nan() || x < lo {
        lo
    } else if x > hi {
        hi
    } else {
        x
    }
}

/// y_0 = x_0, y_t = y_{t−1} + alpha·(x_t − y_{t−1}) down the rows (axis 0) or along them (axis 1).
pub fn ema(x: &[f32], cols: usize, axis: i32, alpha: f32) -> Vec<f32> {
    let mut y = x.to_vec();
    for at in 0..x.len() {
        let before = match axis {
            0 if at >= cols => y[at - cols],
            1 if at % cols > 0 => y[at - 1],
            _ => continue,
        };
        let difference = x[at] - before;
        let step = alpha * difference;
        y[at] = before + step;
    }
    y
}

/// One row to (q, scale); m is `absmax` unless negative, else the row's largest magnitude.
pub fn quantise(y: &[f32], absmax: f32) -> (Vec<i8>, f32) {
    let own = y.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    let m = if absmax < 0.0 { own } else { absmax };
    if m < 2f32.powi(-100) {
        return (vec![0; y.len()], 0.0);
    }
    let inv = 127.0 / m;
    (y.iter().map(|value| (value * inv).round_ties_even().clamp(-127.0, 127.0) as i8).collect(), m / 127.0)
}

/// The rows of C that are not A·Bᵀ modulo p or leave |C| ≤ k·2¹⁴: what a check must find, whatever r it draws.
pub fn wrong_rows(right: &[i32], c: &[i32], n: usize, k: usize) -> Vec<u8> {
    let wrong = |row: usize| {
        let range = row * n..(row + 1) * n;
        let pairs = || right[range.clone()].iter().zip(&c[range.clone()]);
        let congruent = |(x, y): (&i32, &i32)| (i64::from(*x) - i64::from(*y)) % P == 0;
        !pairs().all(congruent) || pairs().any(|(_, y)| i64::from(*y).abs() > (k as i64) << 14)
    };
    (0..right.len() / n.max(1)).map(|row| u8::from(wrong(row))).collect()
}
