//! The exported functions against `oracle.rs`, with lengths around every block boundary.

use crate::check::{BAD_ARGUMENT, BAD_BOUNDS, K_MAX, TOO_LARGE};
use crate::*;

/// Pseudo-random bytes from a text, so that a failure repeats.
pub fn bytes(text: &str, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut out);
    out
}

fn bytes_i8(text: &str, len: usize) -> Vec<i8> {
    bytes(text, len).into_iter().map(|byte| byte as i8).collect()
}

/// Finite values of mixed size.
fn floats(text: &str, len: usize) -> Vec<f32> {
    let word = |four: &[u8]| i32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    bytes(text, 4 * len).chunks(4).map(|four| word(four) as f32 / 3e8 * if four[0] < 60 { 1e-3 } else { 1.0 }).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn products_at_block_boundaries() {
    let mut shapes =
        vec![(1, 1, 1), (97, 9, 1025), (48, 16, 1024), (49, 769, 33), (5, 3, 2049), (3, 5, 0), (2, 2, 4097)];
    for m in [1, 2, 3, 4, 5, 6, 7, 11, 12, 13] {
        for n in [1, 3, 4, 5, 8, 9, 12, 13, 15, 16, 17, 33] {
            shapes.push((m, n, 2 * m + n));
        }
    }
    for (m, n, k) in shapes {
        let (a, b) = (bytes_i8("a", m * k), bytes_i8("b", n * k));
        let want = oracle::matmul(&a, &b, m, n, k);
        let (m, n, k) = (m as u32, n as u32, k as u32);
        let mut c = vec![-1; want.len()];
        assert_eq!(unsafe { matmul_i8(a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), m, n, k) }, 0);
        assert_eq!(c, want, "{m}x{n}x{k}");
        let mut packed = vec![-1i32; packed_size(n, k) as usize / 4];
        c.fill(-1);
        unsafe {
            assert_eq!(pack_b(b.as_ptr(), n, k, packed.as_mut_ptr()), 0);
            assert_eq!(matmul_i8_packed(a.as_ptr(), packed.as_ptr(), c.as_mut_ptr(), m, n, k), 0);
        }
        assert_eq!(c, want, "{m}x{n}x{k} packed");
    }
}

#[test]
fn the_largest_sum_fits() {
    let (a, k) = (vec![-128i8; K_MAX as usize], K_MAX);
    let mut c = [0];
    assert_eq!(unsafe { matmul_i8(a.as_ptr(), a.as_ptr(), c.as_mut_ptr(), 1, 1, k) }, 0);
    assert_eq!(c[0], 65_535 * 16_384);
}

#[test]
fn filters_at_vector_boundaries() {
    for rows in [1, 2, 7, 8, 9, 15, 16, 17] {
        for cols in [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33] {
            for axis in [-1, 0, 1] {
                let x = floats("x", rows * cols);
                let (r, c) = (rows as u32, cols as u32);
                let mut y = x.clone();
                assert_eq!(unsafe { ema_f32(y.as_mut_ptr(), r, c, axis, 0.3) }, 0);
                assert_eq!(bits(&y), bits(&oracle::ema(&x, cols, axis, 0.3)), "{rows}x{cols} axis {axis}");

                let clamped: Vec<f32> = x.iter().map(|&v| oracle::clamp(v, -2.0, 1.5)).collect();
                let mut z = x.clone();
                assert_eq!(unsafe { clamp_f32(z.as_mut_ptr(), r * c, -2.0, 1.5) }, 0);
                assert_eq!(bits(&z), bits(&clamped));

                for warm in [0, rows / 2] {
                    let skip = if axis == 0 { 0 } else { warm };
                    let filtered = oracle::ema(&clamped[skip * cols..], cols, axis, 0.3);
                    fused(&x, &filtered[(warm - skip) * cols..], warm, cols, axis);
                }
            }
        }
    }
}

/// preexec_f32 of x against quantising the filtered rows `y`, by row and by tensor.
fn fused(x: &[f32], y: &[f32], warm: usize, cols: usize, axis: i32) {
    for absmax in [-1.0, 2.0] {
        let rows = y.len() / cols;
        let (mut q, mut scale) = (vec![99i8; rows * cols], vec![-1.0f32; rows]);
        let code = unsafe {
            let (r, w, c) = ((rows + warm) as u32, warm as u32, cols as u32);
            preexec_f32(x.as_ptr(), r, w, c, -2.0, 1.5, axis, 0.3, absmax, q.as_mut_ptr(), scale.as_mut_ptr())
        };
        assert_eq!(code, 0);
        let want: Vec<_> = y.chunks(cols).map(|row| oracle::quantise(row, absmax)).collect();
        assert_eq!(q, want.iter().flat_map(|(q, _)| q.clone()).collect::<Vec<_>>());
        assert_eq!(bits(&scale), want.iter().map(|(_, scale)| scale.to_bits()).collect::<Vec<_>>());
    }
}

#[test]
fn a_zero_keeps_its_sign() {
    for (lo, hi) in [(0.0, 1.0), (-0.0, 1.0), (-1.0, 0.0), (-1.0, -0.0)] {
        let mut y: Vec<f32> = (0..23).map(|at| if at % 2 == 0 { 0.0 } else { -0.0 }).collect();
        let want = bits(&y);
        assert_eq!(unsafe { clamp_f32(y.as_mut_ptr(), 23, lo, hi) }, 0);
        assert_eq!(bits(&y), want);
    }
}

fn check(a: &[i8], b: &[i8], c: &[i32], s: (usize, usize, usize), rounds: u32) -> Vec<u8> {
    let (m, n, k) = s;
    let (mut bad, seed) = (vec![9u8; m], bytes(&format!("seed {rounds}"), 32));
    let found = unsafe {
        let (m, n, k) = (m as u32, n as u32, k as u32);
        freivalds_i8(a.as_ptr(), b.as_ptr(), c.as_ptr(), m, n, k, seed.as_ptr(), rounds, bad.as_mut_ptr())
    };
    assert_eq!(found, bad.iter().map(|flag| i32::from(*flag)).sum::<i32>());
    bad
}

#[test]
fn freivalds_accepts_right_and_names_wrong_rows() {
    let shapes = [(1, 1, 1), (3, 4, 8), (4, 5, 16), (5, 7, 17), (3, 255, 33), (3, 257, 15), (3, 514, 48), (2, 9, 2051)];
    for s in shapes {
        let (m, n, k) = s;
        let (a, b) = (bytes_i8("a", m * k), bytes_i8("b", n * k));
        let right = oracle::matmul(&a, &b, m, n, k);
        for rounds in 1..=4 {
            assert_eq!(check(&a, &b, &right, s, rounds), vec![0; m], "{s:?}");
            for at in [0, m * n / 2, m * n - 1] {
                for change in [1, -1, 1 << 30, i32::MIN] {
                    let mut c = right.clone();
                    c[at] = c[at].wrapping_add(change);
                    assert_eq!(check(&a, &b, &c, s, rounds), oracle::wrong_rows(&right, &c, n, k), "{s:?}");
                }
            }
        }
    }
}

#[test]
fn a_multiple_of_p_is_refused() {
    let s = (3, 6, 40);
    let (a, b) = (bytes_i8("a", 3 * 40), bytes_i8("b", 6 * 40));
    let right = oracle::matmul(&a, &b, 3, 6, 40);
    let mut c = right.clone();
    c[8] = if c[8] > 0 { c[8] - i32::MAX } else { c[8] + i32::MAX };
    assert_eq!(check(&a, &b, &c, s, 2), [0, 1, 0]);
}

#[test]
fn field_elements_stay_in_range() {
    let p = field::P;
    for x in [0, 1, p - 1, p, p + 1, p / 2, p / 2 + 1, i64::MAX, i64::MIN, -1, -p] {
        assert_eq!(field::reduce(field::fold(x)), x.rem_euclid(p));
        let balanced = field::balanced(x);
        assert!(balanced.unsigned_abs() < 1 << 30);
        let (low, high) = field::limbs(balanced);
        assert_eq!(i32::from(low) + (i32::from(high) << 16), balanced);
        assert!(high.unsigned_abs() <= 1 << 14);
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let mut x = [0f32; 8];
    let p = x.as_mut_ptr();
    unsafe {
        assert_eq!(clamp_f32(p, 8, 1.0, f32::NAN), BAD_BOUNDS);
        assert_eq!(clamp_f32(p, 8, -1e38, 1e38), BAD_BOUNDS);
        assert_eq!(clamp_f32(core::ptr::null_mut(), 8, 0.0, 1.0), BAD_ARGUMENT);
        assert_eq!(clamp_f32(p, 1 << 29, 0.0, 1.0), TOO_LARGE);
        assert_eq!(ema_f32(p, 2, 4, 0, 1.5), BAD_ARGUMENT);
        assert_eq!(matmul_i8(p.cast(), p.cast(), p.cast(), 1, 1, 4), BAD_ARGUMENT);
        assert_eq!(matmul_i8(p.cast(), p.cast(), p.add(2).cast(), 1, 1, 65_536), TOO_LARGE);
    }
}

#[test]
fn memory_is_aligned_and_may_be_empty() {
    for len in [0, 1, 63, 64, 65, 100_000] {
        let block = alloc_bytes(len);
        assert!(!block.is_null() && block as usize % 64 == 0);
        unsafe { free_bytes(block, len) };
    }
    unsafe { free_bytes(core::ptr::null_mut(), 9) };
}
