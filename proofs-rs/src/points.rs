//! Field elements and points in the two encodings at hand.
//!
//! *Montgomery, little-endian* is what a zkey holds: x·2²⁵⁶ mod q, coordinate after coordinate, the point at infinity as
//! zeros. *Plain, big-endian* is what crosses our ABI: 32 bytes a number, canonical (below the modulus), G2 coordinates
//! with the real part first as in snarkjs's JSON.

use ark_bn254::{Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, BigInteger, PrimeField, Zero};

use crate::binfile::{Checked, Refused};

pub const G1_BYTES: usize = 64;
pub const G2_BYTES: usize = 128;

const TOO_LARGE: Refused = Refused("a coordinate is not below the field's modulus: write it reduced");

/// Four limbs out of 32 little-endian bytes; `at` lies within `bytes`.
pub fn limbs_le(bytes: &[u8; 32]) -> BigInt<4> {
    let mut limbs = [0; 4];
    for (limb, part) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = u64::from_le_bytes(part.try_into().unwrap_or_default());
    }
    BigInt(limbs)
}

fn limbs_be(bytes: &[u8; 32]) -> BigInt<4> {
    let mut turned = *bytes;
    turned.reverse();
    limbs_le(&turned)
}

pub fn le_bytes(value: BigInt<4>) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (part, limb) in bytes.chunks_exact_mut(8).zip(value.0) {
        part.copy_from_slice(&limb.to_le_bytes());
    }
    bytes
}

fn at<const N: usize>(bytes: &[u8], index: usize) -> Checked<&[u8; N]> {
    bytes
        .get(index * N..(index + 1) * N)
        .and_then(|part| part.try_into().ok())
        .ok_or(Refused("a point is cut off"))
}

fn fq_montgomery(bytes: &[u8], index: usize) -> Checked<Fq> {
    let limbs = limbs_le(at(bytes, index)?);
    if limbs >= Fq::MODULUS { Err(TOO_LARGE) } else { Ok(Fq::new_unchecked(limbs)) }
}

/// A point of 64 bytes in Montgomery form; not checked to lie on the curve.
pub fn g1_montgomery(bytes: &[u8]) -> Checked<G1Affine> {
    let (x, y) = (fq_montgomery(bytes, 0)?, fq_montgomery(bytes, 1)?);
    Ok(if x.is_zero() && y.is_zero() { G1Affine::zero() } else { G1Affine::new_unchecked(x, y) })
}

/// A point of 128 bytes in Montgomery form; not checked to lie on the curve.
pub fn g2_montgomery(bytes: &[u8]) -> Checked<G2Affine> {
    let x = Fq2::new(fq_montgomery(bytes, 0)?, fq_montgomery(bytes, 1)?);
    let y = Fq2::new(fq_montgomery(bytes, 2)?, fq_montgomery(bytes, 3)?);
    Ok(if x.is_zero() && y.is_zero() { G2Affine::zero() } else { G2Affine::new_unchecked(x, y) })
}

pub fn put_g1_montgomery(out: &mut Vec<u8>, point: &G1Affine) {
    let (x, y) = point.xy().unwrap_or_default();
    [x, y].map(|each| out.extend(le_bytes(each.0)));
}

pub fn put_g2_montgomery(out: &mut Vec<u8>, point: &G2Affine) {
    let (x, y) = point.xy().unwrap_or_default();
    [x.c0, x.c1, y.c0, y.c1].map(|each| out.extend(le_bytes(each.0)));
}

fn fq(bytes: &[u8], index: usize) -> Checked<Fq> {
    Fq::from_bigint(limbs_be(at(bytes, index)?)).ok_or(TOO_LARGE)
}

/// A scalar of 32 bytes, big-endian, below r.
pub fn fr(bytes: &[u8; 32]) -> Checked<Fr> {
    Fr::from_bigint(limbs_be(bytes)).ok_or(Refused("a public signal is not below the scalar field's modulus"))
}

/// A point of 64 bytes, plain: on the curve (of prime order, so in the group) and not infinity.
pub fn g1(bytes: &[u8]) -> Checked<G1Affine> {
    let point = G1Affine::new_unchecked(fq(bytes, 0)?, fq(bytes, 1)?);
    if point.is_on_curve() { Ok(point) } else { Err(Refused("a point of G1 is not on the curve")) }
}

/// A point of 128 bytes, plain: on the twist, in the subgroup of order r, and not infinity.
pub fn g2(bytes: &[u8]) -> Checked<G2Affine> {
    let x = Fq2::new(fq(bytes, 0)?, fq(bytes, 1)?);
    let point = G2Affine::new_unchecked(x, Fq2::new(fq(bytes, 2)?, fq(bytes, 3)?));
    if !point.is_on_curve() {
        return Err(Refused("a point of G2 is not on the curve"));
    }
    if !point.is_in_correct_subgroup_assuming_on_curve() {
        return Err(Refused("a point of G2 is outside the subgroup of prime order"));
    }
    Ok(point)
}

fn be_bytes(value: BigInt<4>) -> [u8; 32] {
    let mut bytes = le_bytes(value);
    bytes.reverse();
    bytes
}

pub fn put_fr(out: &mut Vec<u8>, value: &Fr) {
    out.extend(be_bytes(value.into_bigint()));
}

pub fn put_g1(out: &mut Vec<u8>, point: &G1Affine) {
    let (x, y) = point.xy().unwrap_or_default();
    [x, y].map(|each| out.extend(be_bytes(each.into_bigint())));
}

pub fn put_g2(out: &mut Vec<u8>, point: &G2Affine) {
    let (x, y) = point.xy().unwrap_or_default();
    [x.c0, x.c1, y.c0, y.c1].map(|each| out.extend(be_bytes(each.into_bigint())));
}

/// 64 bytes as a scalar, reduced; so uniform bytes give a value that is uniform up to 2⁻²⁵⁶.
pub fn fr_wide(bytes: &[u8; 64]) -> Fr {
    Fr::from_le_bytes_mod_order(bytes)
}

/// True if the limbs are a canonical scalar.
pub fn below_r(limbs: &BigInt<4>) -> bool {
    *limbs < Fr::MODULUS && limbs.num_bits() <= 254
}
