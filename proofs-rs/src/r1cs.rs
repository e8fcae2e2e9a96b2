//! Constraint systems as circom writes them (.r1cs, version 1), without custom gates.

use crate::curve::Fr;
use ark_ff::PrimeField;

use crate::bytes::{Bad, Cursor, Read, Sections};
use crate::numbers::{from_plain, unsigned};

/// One linear combination: (wire, coefficient).
pub type Terms = Vec<(usize, Fr)>;

/// What a file says of its wires: 0 is the constant 1, then come outputs, public inputs, private inputs, and the rest.
#[derive(Clone, Copy)]
pub struct Head {
    pub wires: usize,
    pub outputs: usize,
    pub public_inputs: usize,
    pub private_inputs: usize,
    pub rows: usize,
}

impl Head {
    /// Outputs and public inputs together.
    pub fn public(&self) -> usize {
        self.outputs + self.public_inputs
    }
}

/// Σ A·w × Σ B·w = Σ C·w for each constraint.
pub struct R1cs {
    pub wires: usize,
    pub public: usize,
    pub constraints: Vec<[Terms; 3]>,
}

/// Constraints and wires at most: a key for so many takes about 4 GiB.
pub const ROWS_MAX: usize = 1 << 22;

pub fn read(file: &[u8]) -> Read<R1cs> {
    let mut constraints = Vec::new();
    let head = each(file, |constraint| {
        constraints.push(constraint);
        Ok(())
    })?;
    Ok(R1cs { wires: head.wires, public: head.public(), constraints })
}

/// Call `take` for each constraint in its order, without keeping them.
pub fn each(file: &[u8], mut take: impl FnMut([Terms; 3]) -> Read<()>) -> Read<Head> {
    let sections = Sections::read(file, b"r1cs", 1)?;
    let mut at = Cursor::new(sections.get(1)?);
    if at.u32()? != 32 || at.array::<32>()? != unsigned(&Fr::MODULUS) {
        return Err(Bad::Kind);
    }
    let (wires, outputs, public_inputs, private_inputs) = (at.size()?, at.size()?, at.size()?, at.size()?);
    let (_labels, rows) = (at.u64()?, at.size()?);
    at.end()?;
    let head = Head { wires, outputs, public_inputs, private_inputs, rows };
    if wires > ROWS_MAX || rows > ROWS_MAX {
        return Err(Bad::Large);
    }
    if outputs >= wires || public_inputs >= wires - outputs {
        return Err(Bad::Range);
    }
    // Custom gates are PLONK's; a constraint system that relies on them means something else here.
    for number in [4, 5] {
        if sections.find(number).is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
            return Err(Bad::Kind);
        }
    }
    let mut at = Cursor::new(sections.get(2)?);
    for _ in 0..rows {
        take([terms(&mut at, wires)?, terms(&mut at, wires)?, terms(&mut at, wires)?])?;
    }
    at.end()?;
    Ok(head)
}

/// Which wire each input is, public ones first; none where the compiler folded an input into another wire, whatever the
/// header counts. Inputs are labelled after the outputs, in the circuit's order.
pub fn input_wires(file: &[u8], head: &Head) -> Read<Vec<Option<u32>>> {
    let count = head.public_inputs.checked_add(head.private_inputs).ok_or(Bad::Large)?;
    if count > ROWS_MAX {
        return Err(Bad::Large);
    }
    let mut at = Cursor::new(Sections::read(file, b"r1cs", 1)?.get(3)?);
    let labels = at.records(head.wires, 8)?;
    at.end()?;
    let mut found = vec![None; count];
    for (wire, label) in labels.chunks_exact(8).enumerate() {
        let label = u64::from_le_bytes(label.try_into().map_err(|_| Bad::Form)?);
        let input = usize::try_from(label).ok().and_then(|label| label.checked_sub(1 + head.outputs));
        if let Some(place) = input.and_then(|input| found.get_mut(input)) {
            *place = Some(wire as u32);
        }
    }
    // Only wires after the outputs are inputs; one of them is one input.
    let mut wires: Vec<u32> = found.iter().flatten().copied().collect();
    wires.sort_unstable();
    wires.dedup();
    let distinct = wires.len() == found.iter().flatten().count();
    if !distinct || wires.first().is_some_and(|wire| *wire as usize <= head.outputs) {
        return Err(Bad::Range);
    }
    Ok(found)
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
