//! Field elements and points as bytes, in the three ways in which files and callers write them.
//!
//! * wire: 32 bytes, big-endian, plain; every number must be below its modulus. Points are affine x then y, in G2 each
//!   coordinate as c0 then c1 (the order of snarkjs's JSON, not that of EIP-197).
//! * plain: 32 bytes, little-endian, plain (.r1cs, .wtns).
//! * Montgomery: 32 bytes, little-endian, times 2²⁵⁶ (points in .zkey). That is arkworks' own representation on 64-bit
//!   limbs, so no multiplication is needed. The point at infinity is written as zeros.

use crate::curve::{Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, Field, PrimeField, Zero};

use crate::bytes::{Bad, Read};

fn limbs(bytes: &[u8; 32]) -> BigInt<4> {
    let mut words = [0u64; 4];
    for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes([part[0], part[1], part[2], part[3], part[4], part[5], part[6], part[7]]);
    }
    BigInt(words)
}

/// 32 bytes, little-endian.
pub fn unsigned(number: &BigInt<4>) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    for (part, word) in bytes.chunks_exact_mut(8).zip(number.0) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub fn array(bytes: &[u8]) -> Read<[u8; 32]> {
    bytes.try_into().map_err(|_| Bad::Form)
}

/// A plain integer below `F`'s modulus.
pub fn from_plain<F: PrimeField<BigInt = BigInt<4>>>(bytes: &[u8]) -> Read<F> {
    F::from_bigint(limbs(&array(bytes)?)).ok_or(Bad::Range)
}

pub fn to_plain<F: PrimeField<BigInt = BigInt<4>>>(value: &F) -> [u8; 32] {
    unsigned(&value.into_bigint())
}

/// The integer itself, below r: what a multi-scalar product takes.
pub fn scalar(bytes: &[u8]) -> Read<BigInt<4>> {
    let number = limbs(&array(bytes)?);
    if number < Fr::MODULUS {
        Ok(number)
    } else {
        Err(Bad::Range)
    }
}

/// A wire integer below `F`'s modulus.
pub fn from_wire<F: PrimeField<BigInt = BigInt<4>>>(bytes: &[u8]) -> Read<F> {
    let mut turned = array(bytes)?;
    turned.reverse();
    from_plain(&turned)
}

pub fn to_wire<F: PrimeField<BigInt = BigInt<4>>>(value: &F) -> [u8; 32] {
    let mut bytes = to_plain(value);
    bytes.reverse();
    bytes
}

pub fn fr_from_montgomery(bytes: &[u8]) -> Read<Fr> {
    Ok(Fr::new_unchecked(scalar(bytes)?))
}

fn fq_from_montgomery(bytes: &[u8]) -> Read<Fq> {
    let number = limbs(&array(bytes)?);
    if number < Fq::MODULUS {
        Ok(Fq::new_unchecked(number))
    } else {
        Err(Bad::Range)
    }
}

fn fq2_from(bytes: &[u8], read: impl Fn(&[u8]) -> Read<Fq>) -> Read<Fq2> {
    if bytes.len() != 64 {
        return Err(Bad::Form);
    }
    Ok(Fq2::new(read(&bytes[..32])?, read(&bytes[32..])?))
}

/// 64 bytes of a .zkey. The curve is not checked: a wrong key only makes proofs that nobody accepts.
pub fn g1_from_montgomery(bytes: &[u8]) -> Read<G1Affine> {
    if bytes.len() != 64 {
        return Err(Bad::Form);
    }
    let (x, y) = (fq_from_montgomery(&bytes[..32])?, fq_from_montgomery(&bytes[32..])?);
    Ok(if x.is_zero() && y.is_zero() { G1Affine::identity() } else { G1Affine::new_unchecked(x, y) })
}

/// 128 bytes of a .zkey; not checked, as above.
pub fn g2_from_montgomery(bytes: &[u8]) -> Read<G2Affine> {
    if bytes.len() != 128 {
        return Err(Bad::Form);
    }
    let (x, y) = (fq2_from(&bytes[..64], fq_from_montgomery)?, fq2_from(&bytes[64..], fq_from_montgomery)?);
    Ok(if x.is_zero() && y.is_zero() { G2Affine::identity() } else { G2Affine::new_unchecked(x, y) })
}

pub fn g1_to_montgomery(point: &G1Affine) -> [u8; 64] {
    let mut bytes = [0u8; 64];
    if let Some((x, y)) = point.xy() {
        bytes[..32].copy_from_slice(&unsigned(&x.0));
        bytes[32..].copy_from_slice(&unsigned(&y.0));
    }
    bytes
}

pub fn g2_to_montgomery(point: &G2Affine) -> [u8; 128] {
    let mut bytes = [0u8; 128];
    if let Some((x, y)) = point.xy() {
        for (part, value) in bytes.chunks_exact_mut(32).zip([x.c0, x.c1, y.c0, y.c1]) {
            part.copy_from_slice(&unsigned(&value.0));
        }
    }
    bytes
}

/// A point that somebody sent: on the curve (G1 has no cofactor) and not infinity, which cannot be written here.
pub fn g1_from_wire(bytes: &[u8]) -> Read<G1Affine> {
    if bytes.len() != 64 {
        return Err(Bad::Form);
    }
    let point = G1Affine::new_unchecked(from_wire(&bytes[..32])?, from_wire(&bytes[32..])?);
    // (0, 0) is not on y² = x³ + 3, so the customary spelling of infinity is refused with the rest.
    if point.is_on_curve() {
        Ok(point)
    } else {
        Err(Bad::Range)
    }
}

/// A point that somebody sent: on the twist and in the subgroup of order r, which is a small part of it.
pub fn g2_from_wire(bytes: &[u8]) -> Read<G2Affine> {
    if bytes.len() != 128 {
        return Err(Bad::Form);
    }
    let (x, y) = (fq2_from(&bytes[..64], from_wire)?, fq2_from(&bytes[64..], from_wire)?);
    let point = G2Affine::new_unchecked(x, y);
    if point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve() {
        Ok(point)
    } else {
        Err(Bad::Range)
    }
}

pub fn g1_to_wire(point: &G1Affine) -> [u8; 64] {
    let mut bytes = [0u8; 64];
    if let Some((x, y)) = point.xy() {
        bytes[..32].copy_from_slice(&to_wire(&x));
        bytes[32..].copy_from_slice(&to_wire(&y));
    }
    bytes
}

pub fn g2_to_wire(point: &G2Affine) -> [u8; 128] {
    let mut bytes = [0u8; 128];
    if let Some((x, y)) = point.xy() {
        for (part, value) in bytes.chunks_exact_mut(32).zip([x.c0, x.c1, y.c0, y.c1]) {
            part.copy_from_slice(&to_wire(&value));
        }
    }
    bytes
}

/// 2²⁵⁶ modulo r, by which coefficients in a .zkey are multiplied once more than points are.
pub fn montgomery_factor() -> Fr {
    Fr::from(2u64).pow([256])
}
