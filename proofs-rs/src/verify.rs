//! Groth16 verification with prepared keys: e(A, B) = e(α, β)·e(Σ xᵢICᵢ, γ)·e(C, δ).
//!
//! A batch is checked by one random combination: Π e(ρᵢAᵢ, Bᵢ) · e(Σ ρᵢα, −β) · e(Σ ρᵢLᵢ, −γ) · e(Σ ρᵢCᵢ, −δ) = 1, with
//! ρᵢ = u + λv for 64 random bits u and v: 2¹²⁸ different numbers, by which a point is multiplied in half the steps,
//! since λ·P is free. A batch with a wrong proof passes with probability at most 2⁻¹²⁸; one that fails is halved
//! until each wrong proof is found. Source: Ferrara, Green, Hohenberger, Pedersen, "Practical short signature batch
//! verification" (2009).

use ark_ec::pairing::{MillerLoopOutput, Pairing, PairingOutput};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, BigInt, One, PrimeField, Zero};

use crate::bytes::{Bad, Cursor, Read};
use crate::curve::{times_lambda, Bn254, Fq12, Fr, G1Affine, G1Projective, G2Affine, LAMBDA};
use crate::msm::msm;
use crate::numbers::{from_wire, g1_from_wire, g2_from_wire};

type Prepared = <Bn254 as Pairing>::G2Prepared;

/// Public signals at most.
pub const PUBLIC_MAX: usize = 64;
/// Bytes of a proof: A, B, C.
pub const PROOF: usize = 256;

/// Multiples of a fixed point: entry 15·w + d − 1 is d·16ʷ·P.
struct Table {
    multiples: Vec<G1Affine>,
}

const DIGITS: usize = 64;

impl Table {
    fn new(point: G1Affine) -> Self {
        let mut multiples = Vec::with_capacity(15 * DIGITS);
        let mut base = point.into_group();
        for _ in 0..DIGITS {
            let mut multiple = base;
            for _ in 0..15 {
                multiples.push(multiple);
                multiple += base;
            }
            base = multiple;
        }
        Self { multiples: G1Projective::normalize_batch(&multiples) }
    }

    /// total += scalar·P.
    fn add(&self, total: &mut G1Projective, scalar: &BigInt<4>) {
        for at in 0..DIGITS {
            let digit = (scalar.0[at / 16] >> (4 * (at % 16))) as usize & 15;
            if digit > 0 {
                *total += self.multiples[15 * at + digit - 1];
            }
        }
    }
}

/// A verification key, made ready: about 75 KiB a public signal.
pub struct Key {
    constant: G1Affine,
    tables: Vec<Table>,
    alpha: G1Affine,
    alpha_beta: PairingOutput<Bn254>,
    minus_beta: Prepared,
    minus_gamma: Prepared,
    minus_delta: Prepared,
}

/// A proof whose points are on their curves and in their groups.
pub struct Proof {
    a: G1Affine,
    b: G2Affine,
    c: G1Affine,
}

impl Proof {
    pub fn read(bytes: &[u8]) -> Read<Self> {
        if bytes.len() != PROOF {
            return Err(Bad::Form);
        }
        Ok(Self { a: g1_from_wire(&bytes[..64])?, b: g2_from_wire(&bytes[64..192])?, c: g1_from_wire(&bytes[192..])? })
    }
}

impl Key {
    /// bytes: α (64), β, γ, δ (128 each), then IC (64 each, one more than there are public signals), as on the wire.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut at = Cursor::new(bytes);
        let alpha = g1_from_wire(at.take(64)?)?;
        let (beta, gamma, delta) =
            (g2_from_wire(at.take(128)?)?, g2_from_wire(at.take(128)?)?, g2_from_wire(at.take(128)?)?);
        let count = at.left() / 64;
        if count == 0 || at.left() % 64 != 0 {
            return Err(Bad::Form);
        }
        if count > PUBLIC_MAX + 1 {
            return Err(Bad::Large);
        }
        let constant = g1_from_wire(at.take(64)?)?;
        let mut tables = Vec::with_capacity(count - 1);
        for _ in 1..count {
            tables.push(Table::new(g1_from_wire(at.take(64)?)?));
        }
        Ok(Self {
            constant,
            tables,
            alpha,
            alpha_beta: Bn254::pairing(alpha, beta),
            minus_beta: (-beta).into(),
            minus_gamma: (-gamma).into(),
            minus_delta: (-delta).into(),
        })
    }

    pub fn public(&self) -> usize {
        self.tables.len()
    }

    /// 32 bytes each, as many as the key has, each below r.
    pub fn publics(&self, bytes: &[u8]) -> Read<Vec<Fr>> {
        if bytes.len() != 32 * self.public() {
            return Err(Bad::Mismatch);
        }
        bytes.chunks_exact(32).map(from_wire).collect()
    }

    fn combined(&self, start: G1Projective, scalars: &[Fr]) -> G1Projective {
        let mut total = start;
        for (table, scalar) in self.tables.iter().zip(scalars) {
            table.add(&mut total, &scalar.into_bigint());
        }
        total
    }

    /// Whether `proof` proves `publics`, which come from `publics()`.
    pub fn accepts(&self, proof: &Proof, publics: &[Fr]) -> bool {
        let signals = self.combined(self.constant.into_group(), publics).into_affine();
        let product = Bn254::multi_miller_loop(
            [proof.a, signals, proof.c],
            [proof.b.into(), self.minus_gamma.clone(), self.minus_delta.clone()],
        );
        Bn254::final_exponentiation(product) == Some(self.alpha_beta)
    }

    /// Which of `claims` hold, in their order. Factors are secret and fresh, below 2¹²⁸; zero counts as one.
    pub fn accepts_all(&self, claims: &[Claim]) -> Vec<bool> {
        let mut verdicts = vec![true; claims.len()];
        if claims.is_empty() || self.hold(claims, together(claims)) {
            return verdicts;
        }
        // From here on each proof's own part is kept, so that halves cost no more than their closing.
        let parts: Vec<Fq12> = claims.iter().map(|claim| together(std::slice::from_ref(claim))).collect();
        let mut open = vec![(0, claims.len())];
        while let Some((from, to)) = open.pop() {
            if to - from == 1 {
                verdicts[from] = self.hold(&claims[from..to], parts[from]);
                continue;
            }
            let middle = (from + to) / 2;
            for (start, end) in [(from, middle), (middle, to)] {
                let product = parts[start..end].iter().fold(Fq12::one(), |all, part| all * part);
                if !self.hold(&claims[start..end], product) {
                    if end - start == 1 {
                        verdicts[start] = false;
                    } else {
                        open.push((start, end));
                    }
                }
            }
        }
        verdicts
    }

    /// Whether the combination of `claims` holds; `product` is Π of their Miller loops over (ρᵢAᵢ, Bᵢ).
    fn hold(&self, claims: &[Claim], product: Fq12) -> bool {
        let weight: Fr = claims.iter().map(|claim| claim.weight).sum();
        let mut scalars = vec![Fr::zero(); self.public()];
        for claim in claims {
            for (scalar, public) in scalars.iter_mut().zip(&claim.publics) {
                *scalar += claim.weight * public;
            }
        }
        let signals = self.combined(self.constant * weight, &scalars);
        let (mut points, mut halves) = (Vec::new(), Vec::new());
        for claim in claims {
            points.extend([claim.proof.c, times_lambda(&claim.proof.c)]);
            halves.extend([BigInt::from(claim.halves.0), BigInt::from(claim.halves.1)]);
        }
        let sums = G1Projective::normalize_batch(&[self.alpha * weight, signals, msm(&points, &halves)]);
        let keys = [self.minus_beta.clone(), self.minus_gamma.clone(), self.minus_delta.clone()];
        let rest = Bn254::multi_miller_loop(sums, keys);
        Bn254::final_exponentiation(MillerLoopOutput(product * rest.0)).is_some_and(|output| output.is_zero())
    }
}

/// A proof with its public signals, and the factor that it takes in a batch.
pub struct Claim {
    proof: Proof,
    publics: Vec<Fr>,
    weight: Fr,
    halves: (u64, u64),
    scaled: G1Affine,
}

impl Claim {
    /// factor: 16 random bytes.
    pub fn new(proof: Proof, publics: Vec<Fr>, factor: &[u8; 16]) -> Self {
        let number = u128::from_le_bytes(*factor).max(1);
        let halves = (number as u64, (number >> 64) as u64);
        let weight = Fr::from(halves.0) + LAMBDA * Fr::from(halves.1);
        let scaled = by_halves(&proof.a, halves).into_affine();
        Self { proof, publics, weight, halves, scaled }
    }
}

/// (u + λv)·P by doubling once for both halves.
fn by_halves(point: &G1Affine, (u, v): (u64, u64)) -> G1Projective {
    let other = times_lambda(point);
    let both = (*point + other).into_affine();
    let mut total = G1Projective::zero();
    for bit in (0..64).rev() {
        total.double_in_place();
        match (u >> bit & 1, v >> bit & 1) {
            (1, 1) => total += both,
            (1, 0) => total += point,
            (0, 1) => total += other,
            _ => {}
        }
    }
    total
}

fn together(claims: &[Claim]) -> Fq12 {
    Bn254::multi_miller_loop(claims.iter().map(|claim| claim.scaled), claims.iter().map(|claim| claim.proof.b)).0
}
