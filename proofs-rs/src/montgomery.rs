//! Sums of one or two products in a prime field, a·b·2⁻²⁵⁶ mod p, on arkworks' representation (four 64-bit limbs).
//!
//! arkworks splits each 64 × 64 → 128 bit product into halves on every WebAssembly target, wide arithmetic or not; that
//! made its multiplication the price of everything here. Two ways instead:
//!
//! * `wide`: 128-bit products, interleaved with the reduction (CIOS; Koç, Acar, Kaliski 1996), where the machine or the
//!   module has them.
//! * `narrow`: nine limbs of 29 bits in 64-bit sums, for browsers. At most 27 products of 58 bits meet in a sum, so no
//!   carry is passed on before the end. R is 2²⁶¹ there; b is taken 32 times, which leaves the factor 2⁻²⁵⁶.
//!
//! p < 2²⁵⁴ throughout: two products and the reduction stay below 2p, so one subtraction finishes.

type Limbs = [u64; 4];

/// Whether 64 × 64 → 128 bit products are cheap here.
pub const WIDE: bool = cfg!(any(not(target_family = "wasm"), target_feature = "wide-arithmetic"));

/// Σ a[i]·b[i]·2⁻²⁵⁶ mod p for M = 1 or 2; inputs below p. inv: −p⁻¹ mod 2⁶⁴.
#[inline(always)]
pub fn products<const M: usize>(a: [&Limbs; M], b: [&Limbs; M], p: &Limbs, inv: u64) -> Limbs {
    if WIDE {
        wide(a, b, p, inv)
    } else {
        narrow(a, b, p, inv)
    }
}

#[inline(always)]
fn mac(sum: u64, x: u64, y: u64, carry: &mut u64) -> u64 {
    let wide = u128::from(x) * u128::from(y) + u128::from(sum) + u128::from(*carry);
    *carry = (wide >> 64) as u64;
    wide as u64
}

#[inline(always)]
fn wide<const M: usize>(a: [&Limbs; M], b: [&Limbs; M], p: &Limbs, inv: u64) -> Limbs {
    let mut r = [0u64; 5];
    for j in 0..4 {
        for (a, b) in a.iter().zip(&b) {
            let mut carry = 0;
            for k in 0..4 {
                r[k] = mac(r[k], a[j], b[k], &mut carry);
            }
            r[4] += carry;
        }
        let factor = r[0].wrapping_mul(inv);
        let mut carry = 0;
        mac(r[0], factor, p[0], &mut carry);
        for k in 1..4 {
            r[k - 1] = mac(r[k], factor, p[k], &mut carry);
        }
        r[3] = r[4] + carry;
        r[4] = 0;
    }
    reduced([r[0], r[1], r[2], r[3]], p)
}

const BITS: u32 = 29;
const MASK: u64 = (1 << BITS) - 1;

/// Limbs of 29 bits of 2^shift·x, shift 0 or 5.
#[inline(always)]
fn spread(x: &Limbs, shift: u32) -> [u64; 9] {
    let mut parts = [0u64; 9];
    for (at, part) in parts.iter_mut().enumerate() {
        let low = BITS * at as u32;
        if low < shift {
            *part = x[0] << shift & MASK;
            continue;
        }
        let (word, bit) = (((low - shift) / 64) as usize, (low - shift) % 64);
        *part = x[word] >> bit;
        if bit + BITS > 64 && word < 3 {
            *part |= x[word + 1] << (64 - bit);
        }
        *part &= MASK;
    }
    parts
}

#[inline(always)]
fn narrow<const M: usize>(a: [&Limbs; M], b: [&Limbs; M], p: &Limbs, inv: u64) -> Limbs {
    let (a, b, p9) = (a.map(|x| spread(x, 0)), b.map(|x| spread(x, 5)), spread(p, 0));
    let mut t = [0u64; 9];
    for i in 0..9 {
        for (a, b) in a.iter().zip(&b) {
            for j in 0..9 {
                t[j] += a[i] * b[j];
            }
        }
        let factor = t[0].wrapping_mul(inv) & MASK;
        let carry = (t[0] + factor * p9[0]) >> BITS;
        for j in 1..9 {
            t[j - 1] = t[j] + factor * p9[j];
        }
        t[8] = 0;
        t[0] += carry;
    }
    let mut r = [0u64; 4];
    let mut carry = 0;
    for (at, part) in t.iter().enumerate() {
        let sum = part + carry;
        carry = sum >> BITS;
        let (low, value) = (BITS * at as u32, sum & MASK);
        let (word, bit) = ((low / 64) as usize, low % 64);
        r[word] |= value << bit;
        if bit + BITS > 64 && word < 3 {
            r[word + 1] |= value >> (64 - bit);
        }
    }
    reduced(r, p)
}

/// r mod p for r < 2p.
#[inline(always)]
fn reduced(r: Limbs, p: &Limbs) -> Limbs {
    let mut less = [0u64; 4];
    let mut borrow = false;
    for at in 0..4 {
        let (first, under) = r[at].overflowing_sub(p[at]);
        let (second, again) = first.overflowing_sub(u64::from(borrow));
        less[at] = second;
        borrow = under | again;
    }
    if borrow {
        r
    } else {
        less
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_bn254::Fq;
    use ark_ff::{Field, MontConfig, PrimeField};

    #[test]
    fn both_ways_agree_with_arkworks() {
        let (p, inv) = (Fq::MODULUS.0, <ark_bn254::FqConfig as MontConfig<4>>::INV);
        let mut values = vec![Fq::from(0u64), Fq::from(1u64), -Fq::from(1u64), Fq::from(u128::MAX)];
        for number in 2..40u64 {
            values.push(Fq::from(number).pow([number * 0x1234_5678_9abc_def1]));
        }
        for x in &values {
            for y in &values {
                let (a, b) = (&x.0 .0, &y.0 .0);
                let (one, two) = ((*x * y).0 .0, (*x * y + x.square()).0 .0);
                assert_eq!(wide([a], [b], &p, inv), one);
                assert_eq!(narrow([a], [b], &p, inv), one);
                assert_eq!(wide([a, a], [b, a], &p, inv), two);
                assert_eq!(narrow([a, a], [b, a], &p, inv), two);
            }
        }
    }
}
