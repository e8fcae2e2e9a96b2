//! Readers of circom's `.r1cs` (version 1) and `.wtns` (version 2).

use ark_bn254::Fr;
use ark_ff::{BigInt, PrimeField};

use crate::binfile::{Checked, Reader, Refused, Sections};
use crate::points::{below_r, le_bytes, limbs_le};

/// A·w ∘ B·w = C·w. Terms are (wire, value); row i of each matrix is constraint i.
pub struct R1cs {
    pub wires: u32,
    /// Outputs and public inputs: wires 1 to `publics`.
    pub publics: u32,
    pub constraints: Vec<[Vec<(u32, Fr)>; 3]>,
}

/// 2²² constraints are far more than a device proves.
const CONSTRAINTS_MAX: u32 = 1 << 22;
const TERM_BYTES: usize = 36;

fn read_modulus(reader: &mut Reader) -> Checked<()> {
    if reader.u32()? != 32 || *reader.array::<32>()? != le_bytes(Fr::MODULUS) {
        return Err(Refused("made for another field than BN254's scalars: compile with `--prime bn128`"));
    }
    Ok(())
}

impl R1cs {
    pub fn read(bytes: &[u8]) -> Checked<Self> {
        let sections = Sections::read(bytes, b"r1cs", 1)?;
        if !(sections.is_empty(4) && sections.is_empty(5)) {
            return Err(Refused("the circuit uses custom gates, which Groth16 has not"));
        }
        let mut header = Reader(sections.one(1)?);
        read_modulus(&mut header)?;
        let (wires, outputs, inputs) = (header.u32()?, header.u32()?, header.u32()?);
        let (_private, _labels, count) = (header.u32()?, header.u64()?, header.u32()?);
        header.end()?;
        let publics = outputs.checked_add(inputs).filter(|publics| *publics < wires);
        let publics = publics.ok_or(Refused("more public signals than wires"))?;
        if count > CONSTRAINTS_MAX {
            return Err(Refused("more than 2^22 constraints"));
        }
        let mut body = Reader(sections.one(2)?);
        let mut constraints = Vec::new();
        for _ in 0..count {
            constraints.push([
                read_terms(&mut body, wires)?,
                read_terms(&mut body, wires)?,
                read_terms(&mut body, wires)?,
            ]);
        }
        body.end()?;
        Ok(Self { wires, publics, constraints })
    }
}

fn read_terms(body: &mut Reader, wires: u32) -> Checked<Vec<(u32, Fr)>> {
    let count = body.u32()? as usize;
    let bytes = count.checked_mul(TERM_BYTES).ok_or(Refused("a constraint is too long"))?;
    let mut terms = Reader(body.take(bytes)?);
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let wire = terms.u32()?;
        if wire >= wires {
            return Err(Refused("a constraint names a wire that is not there"));
        }
        let value = Fr::from_bigint(limbs_le(terms.array()?)).ok_or(Refused("a coefficient is not below r"))?;
        found.push((wire, value));
    }
    Ok(found)
}

/// The wires' values; the first is 1.
pub fn read_witness(bytes: &[u8]) -> Checked<Vec<BigInt<4>>> {
    let sections = Sections::read(bytes, b"wtns", 2)?;
    let mut header = Reader(sections.one(1)?);
    read_modulus(&mut header)?;
    let count = header.u32()? as usize;
    header.end()?;
    let values = sections.one(2)?;
    if count.checked_mul(32) != Some(values.len()) {
        return Err(Refused("the witness has another length than it says"));
    }
    let mut found = Vec::with_capacity(count);
    for value in values.chunks_exact(32) {
        let limbs = limbs_le(value.try_into().unwrap_or(&[0xff; 32]));
        if !below_r(&limbs) {
            return Err(Refused("a value of the witness is not below r"));
        }
        found.push(limbs);
    }
    if found.first() != Some(&BigInt::from(1_u32)) {
        return Err(Refused("the first value of a witness is 1"));
    }
    Ok(found)
}
