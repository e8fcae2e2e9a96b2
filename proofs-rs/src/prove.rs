//! Groth16 proofs from a .zkey and a .wtns, as snarkjs makes them, whole or in parts that others compute.
//!
//! A = α + Σ wᵢAᵢ + r·δ, B = β + Σ wᵢBᵢ + s·δ, C = Σ wᵢCᵢ + Σ hᵢHᵢ + s·A + r·B₁ − r·s·δ, where hᵢ is a·b − c on the
//! odd points of the domain of twice the size (see `zkey`). The sums take nearly all of the time and may be cut
//! anywhere: a `Part` is the sum over a slice of a list.

use crate::curve::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInt, PrimeField, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};

use crate::bytes::{Bad, Cursor, Read};
use crate::msm::msm;
use crate::numbers::{g1_from_montgomery, g1_to_montgomery, g2_from_montgomery, g2_to_montgomery};
use crate::zkey::{coefficients, Head, List, Zkey};

pub struct Proof {
    pub a: G1Affine,
    pub b: G2Affine,
    pub c: G1Affine,
}

/// Bytes of randomness that a proof takes: twice 64, each modulo r. Without it a proof tells about its witness.
pub const RANDOM: usize = 128;

/// hᵢ for every row: a·b − c on the coset ω·⟨ω²⟩, ω the root of unity of order 2n. section: the key's coefficients.
pub fn quotient(head: &Head, section: &[u8], witness: &[BigInt<4>]) -> Read<Vec<BigInt<4>>> {
    if witness.len() != head.wires {
        return Err(Bad::Mismatch);
    }
    let values: Vec<Fr> =
        witness.iter().map(|number| Fr::from_bigint(*number).ok_or(Bad::Range)).collect::<Read<_>>()?;
    let (mut a, mut b) = (vec![Fr::zero(); head.domain], vec![Fr::zero(); head.domain]);
    coefficients(head, section, |matrix, row, wire, value| {
        let rows = if matrix == 0 { &mut a } else { &mut b };
        rows[row] += value * values[wire];
    })?;
    let mut c: Vec<Fr> = a.iter().zip(&b).map(|(left, right)| *left * right).collect();
    let rows = Radix2EvaluationDomain::<Fr>::new(head.domain).ok_or(Bad::Large)?;
    let twice = Radix2EvaluationDomain::<Fr>::new(2 * head.domain).ok_or(Bad::Large)?;
    let coset = rows.get_coset(twice.group_gen).ok_or(Bad::Large)?;
    for list in [&mut a, &mut b, &mut c] {
        rows.ifft_in_place(list);
        coset.fft_in_place(list);
    }
    Ok(a.iter().zip(&b).zip(&c).map(|((a, b), c)| (*a * b - c).into_bigint()).collect())
}

/// A point of G1 or, for the list B2, of G2.
pub enum Point {
    One(G1Affine),
    Two(G2Affine),
}

/// Σ sᵢ·Pᵢ over `count` entries of a list, from entry `first` on.
pub struct Part {
    list: List,
    first: usize,
    count: usize,
    point: Point,
}

/// Bytes of a part: list u32, first u32, count u32, its point as in a .zkey, and zeros up to here.
pub const PART: usize = 140;

impl Part {
    /// points: the slice's bytes as they stand in the .zkey; scalars: one for each.
    pub fn sum(list: List, first: usize, points: &[u8], scalars: &[BigInt<4>]) -> Read<Self> {
        let size = list.point_bytes();
        if Some(points.len()) != scalars.len().checked_mul(size) {
            return Err(Bad::Form);
        }
        let entries = points.chunks_exact(size);
        let point = if list == List::B2 {
            let points: Vec<G2Affine> = entries.map(g2_from_montgomery).collect::<Read<_>>()?;
            Point::Two(msm(&points, scalars).into_affine())
        } else {
            let points: Vec<G1Affine> = entries.map(g1_from_montgomery).collect::<Read<_>>()?;
            Point::One(msm(&points, scalars).into_affine())
        };
        Ok(Self { list, first, count: scalars.len(), point })
    }

    pub fn write(&self) -> [u8; PART] {
        let mut bytes = [0; PART];
        for (place, number) in bytes.chunks_exact_mut(4).zip([self.list as usize, self.first, self.count]) {
            place.copy_from_slice(&(number as u32).to_le_bytes());
        }
        match &self.point {
            Point::One(point) => bytes[12..76].copy_from_slice(&g1_to_montgomery(point)),
            Point::Two(point) => bytes[12..].copy_from_slice(&g2_to_montgomery(point)),
        }
        bytes
    }

    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut at = Cursor::new(bytes);
        let (list, first, count) = (List::numbered(at.u32()?)?, at.size()?, at.size()?);
        let size = list.point_bytes();
        let point = at.take(size)?;
        if at.take(128 - size)?.iter().any(|byte| *byte != 0) {
            return Err(Bad::Form);
        }
        at.end()?;
        let point = match list {
            List::B2 => Point::Two(g2_from_montgomery(point)?),
            _ => Point::One(g1_from_montgomery(point)?),
        };
        Ok(Self { list, first, count, point })
    }
}

/// The sums over whole lists, G1 in the order of `List` without B2.
struct Sums {
    one: [G1Projective; 5],
    two: G2Projective,
}

impl Sums {
    /// Mismatch where the parts do not cover each list once, without gaps.
    fn gather(head: &Head, parts: &[Part]) -> Read<Self> {
        let mut sums = Self { one: [G1Projective::zero(); 5], two: G2Projective::zero() };
        let mut order: Vec<&Part> = parts.iter().collect();
        order.sort_by_key(|part| (part.list as usize, part.first, part.count));
        let mut covered = [0; 5];
        for part in order {
            let end = &mut covered[part.list as usize - 5];
            if part.first != *end {
                return Err(Bad::Mismatch);
            }
            *end = part.first.checked_add(part.count).ok_or(Bad::Range)?;
            match &part.point {
                Point::One(point) => sums.one[part.list as usize - 5] += point,
                Point::Two(point) => sums.two += point,
            }
        }
        if List::ALL.iter().zip(covered).any(|(list, end)| head.length(*list) != end) {
            return Err(Bad::Mismatch);
        }
        Ok(sums)
    }
}

/// The proof whose sums `parts` are. random: fresh and secret.
pub fn finish(head: &Head, parts: &[Part], random: &[u8; RANDOM]) -> Read<Proof> {
    let Sums { one: [a, b1, _, c, h], two: b2 } = Sums::gather(head, parts)?;
    let r = Fr::from_le_bytes_mod_order(&random[..64]);
    let s = Fr::from_le_bytes_mod_order(&random[64..]);
    let a = a + head.alpha1 + head.delta1 * r;
    let b1 = b1 + head.beta1 + head.delta1 * s;
    let b = b2 + head.beta2 + head.delta2 * s;
    let c = c + h + a * s + b1 * r - head.delta1 * (r * s);
    let proof = Proof { a: a.into_affine(), b: b.into_affine(), c: c.into_affine() };
    // Infinity cannot be written; with honest randomness it does not happen.
    if proof.a.is_zero() || proof.b.is_zero() || proof.c.is_zero() {
        return Err(Bad::Range);
    }
    Ok(proof)
}

/// A proof for `witness` under `key`. It is not checked that the witness satisfies the circuit: where it does not,
/// nobody accepts the proof. random: fresh and secret.
pub fn prove(key: &Zkey<'_>, witness: &[BigInt<4>], random: &[u8; RANDOM]) -> Read<Proof> {
    let head = &key.head;
    let h = quotient(head, key.coefficients, witness)?;
    let parts: Vec<Part> = List::ALL
        .into_iter()
        .map(|list| {
            let scalars = match list {
                List::A | List::B1 | List::B2 => witness,
                List::C => &witness[head.public + 1..],
                List::H => &h,
            };
            Part::sum(list, 0, key.list(list), scalars)
        })
        .collect::<Read<_>>()?;
    finish(head, &parts, random)
}

/// The public signals of a witness, as integers.
pub fn publics<'w>(head: &Head, witness: &'w [BigInt<4>]) -> Read<&'w [BigInt<4>]> {
    witness.get(1..=head.public).ok_or(Bad::Mismatch)
}
