//! snarkjs's Groth16 `.zkey` (version 1): views into its bytes for the prover, and its sections for the set-up.
//!
//! 1 protocol; 2 header with the verification key; 3 IC; 4 coefficients of A and B; 5 to 7 the points of A, B in G1 and B
//! in G2; 8 of the private wires; 9 of the quotient; 10 the contributions.

use ark_bn254::{Fq, Fr, G1Affine, G2Affine};
use ark_ff::{BigInt, PrimeField};

use crate::binfile::{Checked, Reader, Refused, Sections};
use crate::points::{g1_montgomery, g2_montgomery, le_bytes, limbs_le, G1_BYTES, G2_BYTES};

pub const GROTH16: u32 = 1;
/// The largest domain taken: its points alone are 256 MiB.
pub const DOMAIN_MAX: u32 = 1 << 22;
/// A coefficient: matrix, constraint, wire as u32, then the value times 2⁵¹² mod r, little-endian.
pub const COEFFICIENT_BYTES: usize = 44;

pub struct Zkey<'a> {
    pub wires: usize,
    pub publics: usize,
    pub domain: usize,
    pub alpha_1: G1Affine,
    pub beta_1: G1Affine,
    pub beta_2: G2Affine,
    pub gamma_2: G2Affine,
    pub delta_1: G1Affine,
    pub delta_2: G2Affine,
    sections: Sections<'a>,
}

/// The sections of points of one group.
#[derive(Clone, Copy)]
pub enum Points {
    Ic = 3,
    A = 5,
    B1 = 6,
    B2 = 7,
    C = 8,
    H = 9,
}

impl<'a> Zkey<'a> {
    /// Reads the header and checks the length of every section against it; points are read when they are asked for.
    pub fn read(bytes: &'a [u8]) -> Checked<Self> {
        let sections = Sections::read(bytes, b"zkey", 1)?;
        if Reader(sections.one(1)?).u32()? != GROTH16 {
            return Err(Refused("a key of another protocol than Groth16"));
        }
        let mut header = Reader(sections.one(2)?);
        let fields = [le_bytes(Fq::MODULUS), le_bytes(Fr::MODULUS)];
        for modulus in fields {
            if header.u32()? != 32 || *header.array::<32>()? != modulus {
                return Err(Refused("a key of another curve than BN254"));
            }
        }
        let (wires, publics, domain) = (header.u32()?, header.u32()?, header.u32()?);
        if !domain.is_power_of_two() || domain > DOMAIN_MAX || publics >= wires || wires > 4 * DOMAIN_MAX {
            return Err(Refused("sizes in the key's header do not fit together"));
        }
        let mut g1 = |reader: &mut Reader| g1_montgomery(reader.array::<G1_BYTES>()?);
        let g2 = |reader: &mut Reader| g2_montgomery(reader.array::<G2_BYTES>()?);
        let (alpha_1, beta_1, beta_2, gamma_2) =
            (g1(&mut header)?, g1(&mut header)?, g2(&mut header)?, g2(&mut header)?);
        let (delta_1, delta_2) = (g1(&mut header)?, g2(&mut header)?);
        header.end()?;
        let (wires, publics, domain) = (wires as usize, publics as usize, domain as usize);
        let key =
            Self { wires, publics, domain, alpha_1, beta_1, beta_2, gamma_2, delta_1, delta_2, sections };
        key.check_lengths()?;
        Ok(key)
    }

    fn check_lengths(&self) -> Checked<()> {
        let wanted = [
            (Points::Ic, (self.publics + 1) * G1_BYTES),
            (Points::A, self.wires * G1_BYTES),
            (Points::B1, self.wires * G1_BYTES),
            (Points::B2, self.wires * G2_BYTES),
            (Points::C, (self.wires - self.publics - 1) * G1_BYTES),
            (Points::H, self.domain * G1_BYTES),
        ];
        for (id, len) in wanted {
            if self.sections.one(id as u32)?.len() != len {
                return Err(Refused("a section of the key has another length than its header asks for"));
            }
        }
        Ok(())
    }

    /// Points of G1 of a section.
    pub fn points_1(&self, id: Points) -> Checked<Vec<G1Affine>> {
        self.sections.one(id as u32)?.chunks_exact(G1_BYTES).map(g1_montgomery).collect()
    }

    /// Points of G2 of a section.
    pub fn points_2(&self, id: Points) -> Checked<Vec<G2Affine>> {
        self.sections.one(id as u32)?.chunks_exact(G2_BYTES).map(g2_montgomery).collect()
    }

    /// Calls `each(matrix, constraint, wire, value)` for every coefficient; matrix 0 is A, 1 is B.
    ///
    /// The file holds value·2⁵¹². Its limbs, taken for a Montgomery form, are the element value·2²⁵⁶, whose plain form is
    /// in turn the Montgomery form of value.
    pub fn coefficients(&self, mut each: impl FnMut(usize, usize, usize, Fr)) -> Checked<()> {
        let mut body = Reader(self.sections.one(4)?);
        let count = body.u32()? as usize;
        if count.checked_mul(COEFFICIENT_BYTES) != Some(body.0.len()) {
            return Err(Refused("the key has another number of coefficients than it says"));
        }
        for _ in 0..count {
            let (matrix, constraint, wire) = (body.u32()? as usize, body.u32()? as usize, body.u32()? as usize);
            let limbs: BigInt<4> = limbs_le(body.array()?);
            if matrix > 1 || constraint >= self.domain || wire >= self.wires || limbs >= Fr::MODULUS {
                return Err(Refused("a coefficient of the key is out of range"));
            }
            each(matrix, constraint, wire, Fr::new_unchecked(Fr::new_unchecked(limbs).into_bigint()));
        }
        Ok(())
    }
}
