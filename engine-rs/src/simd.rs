//! The 128-bit vector operations that the kernels use.
//!
//! In the module these are `core::arch::wasm32` itself. Elsewhere the same names are emulated lane by lane, so that
//! `cargo test` runs the very kernels that ship, on any machine, against `oracle.rs`. Only operations whose result
//! is fixed bit for bit by the WebAssembly specification are used: nothing of relaxed SIMD.

#[cfg(target_arch = "wasm32")]
pub use core::arch::wasm32::{
    f32x4_add, f32x4_convert_i32x4, f32x4_ge, f32x4_mul, f32x4_pmax, f32x4_pmin, f32x4_splat, f32x4_sub,
    i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i16x8_narrow_i32x4, i32x4_abs, i32x4_add, i32x4_dot_i16x8,
    i32x4_shuffle, i32x4_splat, i32x4_sub, i64x2_add, i64x2_extmul_high_i32x4, i64x2_extmul_low_i32x4, i64x2_splat,
    i8x16_narrow_i16x8, i8x16_shuffle, u32x4_max, v128, v128_bitselect, v128_load, v128_load32_splat, v128_store,
};

/// Eight signed bytes at `p`, widened to i16.
///
/// # Safety
/// `p` is readable for 8 bytes.
#[cfg(target_arch = "wasm32")]
#[inline(always)]
pub unsafe fn load_i8x8(p: *const i8) -> v128 {
    core::arch::wasm32::i16x8_load_extend_i8x8(p)
}

#[cfg(not(target_arch = "wasm32"))]
pub use emulated::*;

#[cfg(not(target_arch = "wasm32"))]
mod emulated {
    #![allow(non_camel_case_types, clippy::missing_safety_doc)]
    use core::array::from_fn;
    use core::mem::transmute;

    #[derive(Clone, Copy)]
    #[repr(C, align(16))]
    pub struct v128([u8; 16]);

    macro_rules! view {
        ($from:ident, $to:ident, $t:ty, $n:literal) => {
            #[inline(always)]
            fn $from(v: v128) -> [$t; $n] {
                unsafe { transmute(v.0) }
            }
            #[inline(always)]
            #[allow(dead_code)]
            fn $to(v: [$t; $n]) -> v128 {
                v128(unsafe { transmute::<[$t; $n], [u8; 16]>(v) })
            }
        };
    }
    view!(f, of_f, f32, 4);
    view!(i, of_i, i32, 4);
    view!(u, of_u, u32, 4);
    view!(h, of_h, i16, 8);
    view!(b, of_b, i8, 16);
    view!(q, of_q, i64, 2);

    macro_rules! lanes {
        ($($name:ident($from:ident, $to:ident) = |$x:ident, $y:ident| $e:expr;)*) => {$(
            #[inline(always)]
            pub fn $name(a: v128, b: v128) -> v128 {
                let (a, b) = ($from(a), $from(b));
                $to(from_fn(|l| { let ($x, $y) = (a[l], b[l]); $e }))
            }
        )*};
    }
    lanes! {
        f32x4_add(f, of_f) = |x, y| x + y;
        f32x4_sub(f, of_f) = |x, y| x - y;
        f32x4_mul(f, of_f) = |x, y| x * y;
        f32x4_pmin(f, of_f) = |x, y| if y < x { y } else { x };
        f32x4_pmax(f, of_f) = |x, y| if x < y { y } else { x };
        f32x4_ge(f, of_i) = |x, y| -i32::from(x >= y);
        i32x4_add(i, of_i) = |x, y| x.wrapping_add(y);
        i32x4_sub(i, of_i) = |x, y| x.wrapping_sub(y);
        u32x4_max(u, of_u) = |x, y| x.max(y);
        i64x2_add(q, of_q) = |x, y| x.wrapping_add(y);
    }

    pub fn f32x4_splat(x: f32) -> v128 {
        of_f([x; 4])
    }
    pub fn i32x4_splat(x: i32) -> v128 {
        of_i([x; 4])
    }
    pub fn i64x2_splat(x: i64) -> v128 {
        of_q([x; 2])
    }
    #[inline(always)]
    pub fn f32x4_convert_i32x4(a: v128) -> v128 {
        of_f(i(a).map(|x| x as f32))
    }
    #[inline(always)]
    pub fn i32x4_abs(a: v128) -> v128 {
        of_i(i(a).map(i32::wrapping_abs))
    }
    #[inline(always)]
    pub fn v128_bitselect(a: v128, b: v128, mask: v128) -> v128 {
        let (a, b, m) = (i(a), i(b), i(mask));
        of_i(from_fn(|l| (a[l] & m[l]) | (b[l] & !m[l])))
    }
    #[inline(always)]
    pub fn i32x4_dot_i16x8(a: v128, c: v128) -> v128 {
        let (a, c) = (h(a), h(c));
        let product = |l: usize| i32::from(a[l]) * i32::from(c[l]);
        of_i(from_fn(|l| product(2 * l).wrapping_add(product(2 * l + 1))))
    }
    #[inline(always)]
    pub fn i64x2_extmul_low_i32x4(a: v128, c: v128) -> v128 {
        let (a, c) = (i(a), i(c));
        of_q(from_fn(|l| i64::from(a[l]) * i64::from(c[l])))
    }
    #[inline(always)]
    pub fn i64x2_extmul_high_i32x4(a: v128, c: v128) -> v128 {
        let (a, c) = (i(a), i(c));
        of_q(from_fn(|l| i64::from(a[l + 2]) * i64::from(c[l + 2])))
    }
    #[inline(always)]
    pub fn i16x8_extend_low_i8x16(a: v128) -> v128 {
        let a = b(a);
        of_h(from_fn(|l| i16::from(a[l])))
    }
    #[inline(always)]
    pub fn i16x8_extend_high_i8x16(a: v128) -> v128 {
        let a = b(a);
        of_h(from_fn(|l| i16::from(a[l + 8])))
    }
    #[inline(always)]
    pub fn i16x8_narrow_i32x4(a: v128, c: v128) -> v128 {
        let (a, c) = (i(a), i(c));
        of_h(from_fn(|l| (if l < 4 { a[l] } else { c[l - 4] }).clamp(-32768, 32767) as i16))
    }
    #[inline(always)]
    pub fn i8x16_narrow_i16x8(a: v128, c: v128) -> v128 {
        let (a, c) = (h(a), h(c));
        of_b(from_fn(|l| (if l < 8 { a[l] } else { c[l - 8] }).clamp(-128, 127) as i8))
    }
    #[inline(always)]
    pub fn i32x4_shuffle<const A: usize, const B: usize, const C: usize, const D: usize>(a: v128, c: v128) -> v128 {
        let (a, c) = (i(a), i(c));
        of_i([A, B, C, D].map(|l| if l < 4 { a[l] } else { c[l - 4] }))
    }
    #[rustfmt::skip]
    #[inline(always)]
    pub fn i8x16_shuffle<
        const I0: usize, const I1: usize, const I2: usize, const I3: usize, const I4: usize, const I5: usize,
        const I6: usize, const I7: usize, const I8: usize, const I9: usize, const I10: usize, const I11: usize,
        const I12: usize, const I13: usize, const I14: usize, const I15: usize,
    >(a: v128, c: v128) -> v128 {
        let (a, c) = (b(a), b(c));
        of_b([I0, I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11, I12, I13, I14, I15]
            .map(|l| if l < 16 { a[l] } else { c[l - 16] }))
    }
    #[inline(always)]
    pub unsafe fn v128_load(p: *const v128) -> v128 {
        p.read_unaligned()
    }
    #[inline(always)]
    pub unsafe fn v128_store(p: *mut v128, v: v128) {
        p.write_unaligned(v)
    }
    #[inline(always)]
    pub unsafe fn v128_load32_splat(p: *const u32) -> v128 {
        of_u([p.read_unaligned(); 4])
    }
    /// Eight signed bytes at `p`, widened to i16.
    #[inline(always)]
    pub unsafe fn load_i8x8(p: *const i8) -> v128 {
        let bytes = p.cast::<[i8; 8]>().read_unaligned();
        of_h(bytes.map(i16::from))
    }
}

/// The four f32 lanes of `v`.
#[inline(always)]
pub fn f32_lanes(v: v128) -> [f32; 4] {
    let mut out = [0.0; 4];
    unsafe { v128_store(out.as_mut_ptr().cast(), v) };
    out
}

/// The four i32 lanes of `v`.
#[inline(always)]
pub fn i32_lanes(v: v128) -> [i32; 4] {
    let mut out = [0; 4];
    unsafe { v128_store(out.as_mut_ptr().cast(), v) };
    out
}

/// The two i64 lanes of `v`.
#[inline(always)]
pub fn i64_lanes(v: v128) -> [i64; 2] {
    let mut out = [0; 2];
    unsafe { v128_store(out.as_mut_ptr().cast(), v) };
    out
}
