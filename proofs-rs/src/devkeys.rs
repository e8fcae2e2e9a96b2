//! Proving and verifying keys from toxic waste that everybody knows: for development only.
//!
//! Whoever knows τ, α, β, γ, δ proves whatever he likes, and here they follow from a seed. What it buys is time: no
//! powers of tau, no ceremony, seconds instead of hours. Such a key has no contributions, and its verification key is
//! marked; a product that accepts it outside development has no proofs.
//!
//! Equations (Groth, "On the size of pairing-based non-interactive arguments", 2016, §3.2), with a_i, b_i, c_i the
//! polynomials of wire i over the domain of n rows:
//! A_i = a_i(τ)·G, B_i = b_i(τ)·G and ·H, IC_i = (β·a_i + α·b_i + c_i)(τ)/γ·G, C_i the same over δ,
//! and H_i = L(τ)/δ·G with L the Lagrange polynomial of odd point 2i + 1 of the domain of 2n rows.

use crate::curve::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{Field, PrimeField, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

use crate::bytes::{Bad, Read};
use crate::r1cs::{self, R1cs};
use crate::zkey::Parts;

/// Context of the derivation: another circuit or another seed gives other numbers.
const WASTE_CONTEXT: &str = "shardy proofs 2026 development key, toxic waste";
const TAG_CONTEXT: &str = "shardy proofs 2026 development key, seed tag";

struct Waste {
    tau: Fr,
    alpha: Fr,
    beta: Fr,
    gamma: Fr,
    delta: Fr,
}

/// The numbers that follow from seed and circuit: 64 bytes each of BLAKE3's output, modulo r.
fn waste(seed: &[u8; 32], circuit: &[u8; 32]) -> Waste {
    let mut hasher = blake3::Hasher::new_derive_key(WASTE_CONTEXT);
    hasher.update(seed).update(circuit);
    let mut bytes = [0u8; 320];
    hasher.finalize_xof().fill(&mut bytes);
    let number = |at: usize| Fr::from_le_bytes_mod_order(&bytes[64 * at..64 * at + 64]);
    Waste { tau: number(0), alpha: number(1), beta: number(2), gamma: number(3), delta: number(4) }
}

/// What a seed may be called in public: it tells keys apart and does not tell the seed.
pub fn seed_tag(seed: &[u8; 32]) -> [u8; 16] {
    let mut tag = [0u8; 16];
    blake3::Hasher::new_derive_key(TAG_CONTEXT).update(seed).finalize_xof().fill(&mut tag);
    tag
}

/// The polynomials of all wires at τ: (a, b, c).
fn at_tau(system: &R1cs, lagrange: &[Fr]) -> [Vec<Fr>; 3] {
    let mut sums = [vec![Fr::zero(); system.wires], vec![Fr::zero(); system.wires], vec![Fr::zero(); system.wires]];
    for (row, constraint) in system.constraints.iter().enumerate() {
        for (sum, terms) in sums.iter_mut().zip(constraint) {
            for (wire, value) in terms {
                sum[*wire] += lagrange[row] * value;
            }
        }
    }
    // One row more for each public wire: it makes their polynomials independent, so that no public input can be moved
    // into another.
    for wire in 0..=system.public {
        sums[0][wire] += lagrange[system.constraints.len() + wire];
    }
    sums
}

fn coefficients(system: &R1cs) -> Vec<(u32, u32, u32, Fr)> {
    let mut found = Vec::new();
    for (row, constraint) in system.constraints.iter().enumerate() {
        for matrix in 0..2 {
            for (wire, value) in &constraint[matrix] {
                found.push((matrix as u32, row as u32, *wire as u32, *value));
            }
        }
    }
    for wire in 0..=system.public {
        found.push((0, (system.constraints.len() + wire) as u32, wire as u32, Fr::ONE));
    }
    found
}

/// A key for the circuit in `file` (.r1cs). seed: 32 bytes, known to whoever may forge.
pub fn make(file: &[u8], seed: &[u8; 32]) -> Read<Parts> {
    let system = r1cs::read(file)?;
    let domain = system.domain();
    if domain > r1cs::ROWS_MAX {
        return Err(Bad::Large);
    }
    let Waste { tau, alpha, beta, gamma, delta } = waste(seed, blake3::hash(file).as_bytes());
    let rows = Radix2EvaluationDomain::<Fr>::new(domain).ok_or(Bad::Large)?;
    let twice = Radix2EvaluationDomain::<Fr>::new(2 * domain).ok_or(Bad::Large)?;
    let [a, b, c] = at_tau(&system, &rows.evaluate_all_lagrange_coefficients(tau));
    let (by_gamma, by_delta) = (gamma.inverse().ok_or(Bad::Range)?, delta.inverse().ok_or(Bad::Range)?);
    let mixed = |from: usize, to: usize, factor: Fr| -> Vec<Fr> {
        (from..to).map(|wire| (beta * a[wire] + alpha * b[wire] + c[wire]) * factor).collect()
    };
    let odd: Vec<Fr> =
        twice.evaluate_all_lagrange_coefficients(tau).into_iter().skip(1).step_by(2).map(|l| l * by_delta).collect();

    let (g, h) = (G1Projective::generator(), G2Projective::generator());
    let table = BatchMulPreprocessing::new(g, 3 * system.wires + domain);
    let twist = BatchMulPreprocessing::new(h, system.wires);
    let g1 = |scalar: Fr| -> G1Affine { (g * scalar).into_affine() };
    let g2 = |scalar: Fr| -> G2Affine { (h * scalar).into_affine() };
    Ok(Parts {
        wires: system.wires,
        public: system.public,
        domain,
        alpha1: g1(alpha),
        beta1: g1(beta),
        beta2: g2(beta),
        gamma2: g2(gamma),
        delta1: g1(delta),
        delta2: g2(delta),
        ic: table.batch_mul(&mixed(0, system.public + 1, by_gamma)),
        coefficients: coefficients(&system),
        a: table.batch_mul(&a),
        b1: table.batch_mul(&b),
        b2: twist.batch_mul(&b),
        c: table.batch_mul(&mixed(system.public + 1, system.wires, by_delta)),
        h: table.batch_mul(&odd),
    })
}
