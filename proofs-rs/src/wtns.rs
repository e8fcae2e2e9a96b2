//! Witnesses as circom's calculators write them (.wtns, version 2).

use crate::curve::Fr;
use ark_ff::{BigInt, PrimeField};

use crate::bytes::{Bad, Cursor, Read, Sections};
use crate::numbers::{scalar, unsigned};

/// Wires at most, as in `r1cs`.
const WIRES_MAX: usize = 1 << 22;
/// Bytes before the first value in what `write` writes.
pub const HEAD: usize = 76;

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
    let found = values(at.records(count, 32)?)?;
    at.end()?;
    Ok(found)
}

/// The same of the values alone, 32 bytes each.
pub fn values(bytes: &[u8]) -> Read<Vec<BigInt<4>>> {
    let found = scalars(bytes)?;
    if found.first() != Some(&BigInt::from(1u64)) {
        return Err(Bad::Range);
    }
    Ok(found)
}

/// Integers below r, 32 bytes each, little-endian.
pub fn scalars(bytes: &[u8]) -> Read<Vec<BigInt<4>>> {
    if bytes.len() % 32 != 0 {
        return Err(Bad::Form);
    }
    bytes.chunks_exact(32).map(scalar).collect()
}

/// Write a file of `values` into `out`, which has HEAD + 32·values bytes.
pub fn write(values: &[Fr], out: &mut [u8]) -> Read<()> {
    if out.len() != HEAD + 32 * values.len() {
        return Err(Bad::Form);
    }
    let mut head = Vec::with_capacity(HEAD);
    head.extend(b"wtns");
    head.extend(2u32.to_le_bytes());
    head.extend(2u32.to_le_bytes());
    head.extend(1u32.to_le_bytes());
    head.extend(40u64.to_le_bytes());
    head.extend(32u32.to_le_bytes());
    head.extend(unsigned(&Fr::MODULUS));
    head.extend((values.len() as u32).to_le_bytes());
    head.extend(2u32.to_le_bytes());
    head.extend((32 * values.len() as u64).to_le_bytes());
    out[..HEAD].copy_from_slice(&head);
    for (place, value) in out[HEAD..].chunks_exact_mut(32).zip(values) {
        place.copy_from_slice(&unsigned(&value.into_bigint()));
    }
    Ok(())
}
