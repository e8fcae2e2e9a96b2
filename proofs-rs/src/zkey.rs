//! Proving keys in snarkjs's file format (.zkey, Groth16), read in place.
//!
//! Sections: 1 protocol; 2 header; 3 IC; 4 coefficients; 5 A; 6 B in G1; 7 B in G2; 8 C; 9 H; 10 contributions.
//! H is not the usual list of powers: entry i is L(τ)/δ for the Lagrange polynomial of the odd point 2i + 1 of the
//! domain of twice the size, so that a prover needs the quotient's numerator on that coset only.

use crate::curve::{Fq, Fr, G1Affine, G2Affine};
use ark_ff::{Field, PrimeField};

use crate::bytes::{Bad, Cursor, Read, Sections};
use crate::numbers::{
    fr_from_montgomery, g1_from_montgomery, g1_to_montgomery, g2_from_montgomery, g2_to_montgomery, montgomery_factor,
    to_plain, unsigned,
};

/// Largest domain: 2^22 rows, as in `r1cs`.
const DOMAIN_MAX: usize = 1 << 22;
/// matrix u32, row u32, wire u32, value 32.
const COEFFICIENT: usize = 44;

/// What a key says before its lists: section 2.
pub struct Head {
    pub wires: usize,
    pub public: usize,
    pub domain: usize,
    pub alpha1: G1Affine,
    pub beta1: G1Affine,
    pub beta2: G2Affine,
    pub gamma2: G2Affine,
    pub delta1: G1Affine,
    pub delta2: G2Affine,
}

impl Head {
    pub fn read(section: &[u8]) -> Read<Self> {
        let mut head = Cursor::new(section);
        if head.u32()? != 32 || head.array::<32>()? != unsigned(&Fq::MODULUS) {
            return Err(Bad::Kind);
        }
        if head.u32()? != 32 || head.array::<32>()? != unsigned(&Fr::MODULUS) {
            return Err(Bad::Kind);
        }
        let (wires, public, domain) = (head.size()?, head.size()?, head.size()?);
        if domain > DOMAIN_MAX || wires > DOMAIN_MAX {
            return Err(Bad::Large);
        }
        if !domain.is_power_of_two() || domain < 2 || public >= wires {
            return Err(Bad::Range);
        }
        let found = Self {
            wires,
            public,
            domain,
            alpha1: g1_from_montgomery(head.take(64)?)?,
            beta1: g1_from_montgomery(head.take(64)?)?,
            beta2: g2_from_montgomery(head.take(128)?)?,
            gamma2: g2_from_montgomery(head.take(128)?)?,
            delta1: g1_from_montgomery(head.take(64)?)?,
            delta2: g2_from_montgomery(head.take(128)?)?,
        };
        head.end()?;
        Ok(found)
    }

    /// How many points a list has.
    pub fn length(&self, list: List) -> usize {
        match list {
            List::A | List::B1 | List::B2 => self.wires,
            List::C => self.wires - self.public - 1,
            List::H => self.domain,
        }
    }
}

/// The lists of points, by the number of their section; B2 is in G2. See the head of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    A = 5,
    B1 = 6,
    B2 = 7,
    C = 8,
    H = 9,
}

impl List {
    pub const ALL: [Self; 5] = [Self::A, Self::B1, Self::B2, Self::C, Self::H];

    pub fn numbered(section: u32) -> Read<Self> {
        Self::ALL.into_iter().find(|list| *list as u32 == section).ok_or(Bad::Range)
    }

    /// Bytes of one of its points.
    pub fn point_bytes(self) -> usize {
        match self {
            Self::B2 => 128,
            _ => 64,
        }
    }
}

/// A key whose lists stay in the file; their lengths are checked, their entries as they are read.
pub struct Zkey<'a> {
    pub head: Head,
    /// Section 4, for `coefficients`.
    pub coefficients: &'a [u8],
    lists: [&'a [u8]; 5],
}

impl<'a> Zkey<'a> {
    pub fn read(file: &'a [u8]) -> Read<Self> {
        let sections = Sections::read(file, b"zkey", 1)?;
        if sections.get(1)? != 1u32.to_le_bytes() {
            return Err(Bad::Kind);
        }
        let head = Head::read(sections.get(2)?)?;
        let exact = |number: u32, length: usize| -> Read<&'a [u8]> {
            sections.get(number).and_then(|bytes| if bytes.len() == length { Ok(bytes) } else { Err(Bad::Form) })
        };
        exact(3, 64 * (head.public + 1))?;
        let mut lists: [&[u8]; 5] = [&[]; 5];
        for (place, list) in lists.iter_mut().zip(List::ALL) {
            *place = exact(list as u32, list.point_bytes() * head.length(list))?;
        }
        let coefficients = sections.get(4)?;
        records(coefficients)?;
        Ok(Self { head, coefficients, lists })
    }

    /// The bytes of a list of points.
    pub fn list(&self, list: List) -> &'a [u8] {
        self.lists[list as usize - 5]
    }
}

/// The records of section 4.
fn records(section: &[u8]) -> Read<&[u8]> {
    let mut at = Cursor::new(section);
    let count = at.size()?;
    let found = at.records(count, COEFFICIENT)?;
    at.end()?;
    Ok(found)
}

/// Call `each(matrix, row, wire, value)` for every coefficient of section 4, matrix 0 for A and 1 for B.
pub fn coefficients(head: &Head, section: &[u8], mut each: impl FnMut(usize, usize, usize, Fr)) -> Read<()> {
    // The file holds value·R², and a Montgomery number stands for itself divided by R: one division is left.
    let unscale = montgomery_factor().inverse().ok_or(Bad::Range)?;
    for record in records(section)?.chunks_exact(COEFFICIENT) {
        let mut at = Cursor::new(record);
        let (matrix, row, wire) = (at.size()?, at.size()?, at.size()?);
        if matrix > 1 || row >= head.domain || wire >= head.wires {
            return Err(Bad::Range);
        }
        each(matrix, row, wire, fr_from_montgomery(at.take(32)?)? * unscale);
    }
    Ok(())
}

/// What a key is made of; lengths as `Zkey::read` wants them.
pub struct Parts {
    pub wires: usize,
    pub public: usize,
    pub domain: usize,
    pub alpha1: G1Affine,
    pub beta1: G1Affine,
    pub beta2: G2Affine,
    pub gamma2: G2Affine,
    pub delta1: G1Affine,
    pub delta2: G2Affine,
    pub ic: Vec<G1Affine>,
    pub coefficients: Vec<(u32, u32, u32, Fr)>,
    pub a: Vec<G1Affine>,
    pub b1: Vec<G1Affine>,
    pub b2: Vec<G2Affine>,
    pub c: Vec<G1Affine>,
    pub h: Vec<G1Affine>,
}

fn section(file: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    file.extend(number.to_le_bytes());
    file.extend((bytes.len() as u64).to_le_bytes());
    file.extend(bytes);
}

fn points(list: &[G1Affine]) -> Vec<u8> {
    list.iter().flat_map(g1_to_montgomery).collect()
}

impl Parts {
    /// The file's bytes, with an empty list of contributions.
    pub fn write(&self) -> Vec<u8> {
        let mut head = Vec::new();
        for modulus in [unsigned(&Fq::MODULUS), unsigned(&Fr::MODULUS)] {
            head.extend(32u32.to_le_bytes());
            head.extend(modulus);
        }
        for number in [self.wires, self.public, self.domain] {
            head.extend((number as u32).to_le_bytes());
        }
        head.extend(g1_to_montgomery(&self.alpha1));
        head.extend(g1_to_montgomery(&self.beta1));
        head.extend(g2_to_montgomery(&self.beta2));
        head.extend(g2_to_montgomery(&self.gamma2));
        head.extend(g1_to_montgomery(&self.delta1));
        head.extend(g2_to_montgomery(&self.delta2));
        let scale = montgomery_factor() * montgomery_factor();
        let mut coefficients = (self.coefficients.len() as u32).to_le_bytes().to_vec();
        for (matrix, row, wire, value) in &self.coefficients {
            for number in [matrix, row, wire] {
                coefficients.extend(number.to_le_bytes());
            }
            coefficients.extend(to_plain(&(*value * scale)));
        }
        let twist: Vec<u8> = self.b2.iter().flat_map(g2_to_montgomery).collect();
        let mut file = Vec::new();
        file.extend(b"zkey");
        file.extend(1u32.to_le_bytes());
        file.extend(10u32.to_le_bytes());
        section(&mut file, 1, &1u32.to_le_bytes());
        section(&mut file, 2, &head);
        section(&mut file, 3, &points(&self.ic));
        section(&mut file, 4, &coefficients);
        section(&mut file, 5, &points(&self.a));
        section(&mut file, 6, &points(&self.b1));
        section(&mut file, 7, &twist);
        section(&mut file, 8, &points(&self.c));
        section(&mut file, 9, &points(&self.h));
        // A digest of the circuit and the number of contributions: none, which is what marks such a key.
        section(&mut file, 10, &[0; 68]);
        file
    }
}
