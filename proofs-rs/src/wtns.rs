//! Witnesses as circom's calculators write them (.wtns, version 2).

use crate::curve::Fr;
use ark_ff::{BigInt, PrimeField};

use crate::bytes::{Bad, Cursor, Read, Sections};
use crate::numbers::{scalar, unsigned};

/// Wires at most, as in `r1cs`.
const WIRES_MAX: usize = 1 << 22;

/// The wires' values as integers below r; the first is 1.
pub fn read(file: &[u8]) -> Read<Vec<BigInt<4>>> {
    let sections = Sections::read(file, b"wtns", 2)?;
    let mut head = Cursor::new(sections.get(1)?);
    if head.u32()? != 32 || head.array::<32>()? != unsigned(&Fr::MODULUS) {
        return Err(Bad::Kind);
    }
    let count = head.size()?;
    head.end()?;
    if count > WIRES_MAX {
        return Err(Bad::Large);
    }
    let mut at = Cursor::new(sections.get(2)?);
    let bytes = at.records(count, 32)?;
    at.end()?;
    let values: Vec<BigInt<4>> = bytes.chunks_exact(32).map(scalar).collect::<Read<_>>()?;
    if values.first() != Some(&BigInt::from(1u64)) {
        return Err(Bad::Range);
    }
    Ok(values)
}
