//! Groth16 proofs from a .zkey and a .wtns, as snarkjs makes them.
//!
//! A = α + Σ wᵢAᵢ + r·δ, B = β + Σ wᵢBᵢ + s·δ, C = Σ wᵢCᵢ + Σ hᵢHᵢ + s·A + r·B₁ − r·s·δ, where hᵢ is a·b − c on the
//! odd points of the domain of twice the size (see `zkey`).

use crate::curve::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::CurveGroup;
use ark_ff::{BigInt, PrimeField, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

use crate::bytes::{Bad, Read};
use crate::msm::msm;
use crate::zkey::{Query, Zkey};

pub struct Proof {
    pub a: G1Affine,
    pub b: G2Affine,
    pub c: G1Affine,
}

/// Bytes of randomness that a proof takes: twice 64, each modulo r. Without it a proof tells about its witness.
pub const RANDOM: usize = 128;

/// hᵢ for every row: a·b − c on the coset ω·⟨ω²⟩, ω the root of unity of order 2n.
fn quotient(key: &Zkey<'_>, witness: &[BigInt<4>]) -> Read<Vec<BigInt<4>>> {
    let values: Vec<Fr> =
        witness.iter().map(|number| Fr::from_bigint(*number).ok_or(Bad::Range)).collect::<Read<_>>()?;
    let (mut a, mut b) = (vec![Fr::zero(); key.domain], vec![Fr::zero(); key.domain]);
    key.coefficients(|matrix, row, wire, value| {
        let rows = if matrix == 0 { &mut a } else { &mut b };
        rows[row] += value * values[wire];
    })?;
    let mut c: Vec<Fr> = a.iter().zip(&b).map(|(left, right)| *left * right).collect();
    let rows = Radix2EvaluationDomain::<Fr>::new(key.domain).ok_or(Bad::Large)?;
    let twice = Radix2EvaluationDomain::<Fr>::new(2 * key.domain).ok_or(Bad::Large)?;
    let coset = rows.get_coset(twice.group_gen).ok_or(Bad::Large)?;
    for list in [&mut a, &mut b, &mut c] {
        rows.ifft_in_place(list);
        coset.fft_in_place(list);
    }
    Ok(a.iter().zip(&b).zip(&c).map(|((a, b), c)| (*a * b - c).into_bigint()).collect())
}

fn sum(key: &Zkey<'_>, query: Query, scalars: &[BigInt<4>]) -> Read<G1Projective> {
    let points: Vec<G1Affine> = (0..scalars.len()).map(|at| key.g1(query, at)).collect::<Read<_>>()?;
    Ok(msm(&points, scalars))
}

fn sum_twist(key: &Zkey<'_>, scalars: &[BigInt<4>]) -> Read<G2Projective> {
    let points: Vec<G2Affine> = (0..scalars.len()).map(|at| key.g2(at)).collect::<Read<_>>()?;
    Ok(msm(&points, scalars))
}

/// A proof for `witness` under `key`. It is not checked that the witness satisfies the circuit: where it does not,
/// nobody accepts the proof. random: fresh and secret.
pub fn prove(key: &Zkey<'_>, witness: &[BigInt<4>], random: &[u8; RANDOM]) -> Read<Proof> {
    if witness.len() != key.wires {
        return Err(Bad::Mismatch);
    }
    let r = Fr::from_le_bytes_mod_order(&random[..64]);
    let s = Fr::from_le_bytes_mod_order(&random[64..]);
    let h = sum(key, Query::H, &quotient(key, witness)?)?;
    let a = sum(key, Query::A, witness)? + key.alpha1 + key.delta1 * r;
    let b1 = sum(key, Query::B1, witness)? + key.beta1 + key.delta1 * s;
    let b = sum_twist(key, witness)? + key.beta2 + key.delta2 * s;
    let c = sum(key, Query::C, &witness[key.public + 1..])? + h + a * s + b1 * r - key.delta1 * (r * s);
    let proof = Proof { a: a.into_affine(), b: b.into_affine(), c: c.into_affine() };
    // Infinity cannot be written; with honest randomness it does not happen.
    if proof.a.infinity || proof.b.infinity || proof.c.infinity {
        return Err(Bad::Range);
    }
    Ok(proof)
}

/// The public signals of a witness, as integers.
pub fn publics<'w>(key: &Zkey<'_>, witness: &'w [BigInt<4>]) -> Read<&'w [BigInt<4>]> {
    witness.get(1..=key.public).ok_or(Bad::Mismatch)
}
