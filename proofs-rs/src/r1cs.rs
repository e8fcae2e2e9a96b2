//! Constraint systems as circom writes them (.r1cs, version 1), without custom gates.

use crate::curve::Fr;
use ark_ff::PrimeField;

use crate::bytes::{Bad, Cursor, Read, Sections};
use crate::numbers::{from_plain, unsigned};

/// One linear combination: (wire, coefficient).
pub type Terms = Vec<(usize, Fr)>;

/// Σ A·w × Σ B·w = Σ C·w for each constraint; wire 0 is the constant 1, then outputs, then public inputs.
pub struct R1cs {
    pub wires: usize,
    /// Outputs and public inputs together.
    pub public: usize,
    pub constraints: Vec<[Terms; 3]>,
}

/// Constraints and wires at most: a key for so many takes about 4 GiB.
pub const ROWS_MAX: usize = 1 << 22;

pub fn read(file: &[u8]) -> Read<R1cs> {
    let sections = Sections::read(file, b"r1cs", 1)?;
    let mut head = Cursor::new(sections.get(1)?);
    if head.u32()? != 32 || head.array::<32>()? != unsigned(&Fr::MODULUS) {
        return Err(Bad::Kind);
    }
    let (wires, outputs, inputs) = (head.size()?, head.size()?, head.size()?);
    let (_private, _labels, rows) = (head.size()?, head.u64()?, head.size()?);
    head.end()?;
    if wires > ROWS_MAX || rows > ROWS_MAX {
        return Err(Bad::Large);
    }
    let public = outputs.checked_add(inputs).ok_or(Bad::Range)?;
    if public >= wires {
        return Err(Bad::Range);
    }
    // Custom gates are PLONK's; a constraint system that relies on them means something else here.
    for number in [4, 5] {
        if sections.find(number).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            return Err(Bad::Kind);
        }
    }
    let mut at = Cursor::new(sections.get(2)?);
    let mut constraints = Vec::new();
    for _ in 0..rows {
        constraints.push([terms(&mut at, wires)?, terms(&mut at, wires)?, terms(&mut at, wires)?]);
    }
    at.end()?;
    Ok(R1cs { wires, public, constraints })
}

fn terms(at: &mut Cursor, wires: usize) -> Read<Terms> {
    let count = at.size()?;
    let mut bytes = Cursor::new(at.records(count, 36)?);
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let wire = bytes.size()?;
        if wire >= wires {
            return Err(Bad::Range);
        }
        found.push((wire, from_plain(bytes.take(32)?)?));
    }
    Ok(found)
}

impl R1cs {
    /// Rows of the domain: constraints, then one for each public wire and the constant, up to a power of two.
    pub fn domain(&self) -> usize {
        (self.constraints.len() + self.public + 1).next_power_of_two().max(2)
    }
}
