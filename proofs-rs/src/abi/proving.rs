//! Proofs from a .zkey and a .wtns: whole, or in parts that several instances compute.

use ark_ff::BigInt;

use super::{answer, block, room};
use crate::bytes::{Bad, Read};
use crate::numbers::{g1_to_wire, g2_to_wire, unsigned};
use crate::prove::{self, Part, Proof, PART};
use crate::verify::PROOF;
use crate::wtns;
use crate::zkey::{Head, List, Zkey};

/// How many public signals a .zkey has.
///
/// # Safety
/// `key` names `key_length` bytes.
#[no_mangle]
pub unsafe extern "C" fn zkey_publics(key: *const u8, key_length: usize) -> i32 {
    answer(Zkey::read(block(key, key_length)).map(|key| key.head.public as i32))
}

/// Proof and public signals in wire form; the number of signals. Form where `out` has another length.
fn put(out: &mut [u8], publics: &[BigInt<4>], prove: impl FnOnce() -> Read<Proof>) -> Read<i32> {
    if out.len() != PROOF + 32 * publics.len() {
        return Err(Bad::Form);
    }
    let proof = prove()?;
    out[..64].copy_from_slice(&g1_to_wire(&proof.a));
    out[64..192].copy_from_slice(&g2_to_wire(&proof.b));
    out[192..PROOF].copy_from_slice(&g1_to_wire(&proof.c));
    for (part, number) in out[PROOF..].chunks_exact_mut(32).zip(publics) {
        part.copy_from_slice(&unsigned(number));
        part.reverse();
    }
    Ok(publics.len() as i32)
}

unsafe fn secret<'a>(random: *const u8) -> Read<&'a [u8; prove::RANDOM]> {
    block(random, prove::RANDOM).try_into().map_err(|_| Bad::Form)
}

/// Prove the witness of a .wtns under a .zkey with 128 secret random bytes; `out` gets the proof (256 bytes), then the
/// public signals. The number of signals.
///
/// # Safety
/// The pointers name blocks of the lengths beside them; `random` 128 bytes.
#[no_mangle]
pub unsafe extern "C" fn prove_groth16(
    key: *const u8,
    key_length: usize,
    witness: *const u8,
    witness_length: usize,
    random: *const u8,
    out: *mut u8,
    out_length: usize,
) -> i32 {
    answer((|| {
        let key = Zkey::read(block(key, key_length))?;
        let witness = wtns::read(block(witness, witness_length))?;
        let publics = prove::publics(&key.head, &witness)?;
        put(room(out, out_length), publics, || prove::prove(&key, &witness, secret(random)?))
    })())
}

/// The scalars of list H into `out`, 32 bytes each, little-endian; their number. head and coefficients: sections 2 and 4
/// of the .zkey; values: all of the .wtns.
///
/// # Safety
/// The pointers name blocks of the lengths beside them.
#[no_mangle]
pub unsafe extern "C" fn prove_quotient(
    head: *const u8,
    head_length: usize,
    coefficients: *const u8,
    coefficients_length: usize,
    values: *const u8,
    values_length: usize,
    out: *mut u8,
    out_length: usize,
) -> i32 {
    answer((|| {
        let head = Head::read(block(head, head_length))?;
        if out_length != 32 * head.domain {
            return Err(Bad::Form);
        }
        let values = wtns::values(block(values, values_length))?;
        let found = prove::quotient(&head, block(coefficients, coefficients_length), &values)?;
        for (place, number) in room(out, out_length).chunks_exact_mut(32).zip(&found) {
            place.copy_from_slice(&unsigned(number));
        }
        Ok(found.len() as i32)
    })())
}

/// Σ scalar·point over a slice of a list, as a part of 140 bytes in `out`; the number of points. section: 5 A, 6 B in
/// G1, 7 B in G2, 8 C, 9 H. first: the slice's first entry. points: as they stand in the .zkey. scalars: 32 bytes each,
/// little-endian.
///
/// # Safety
/// The pointers name blocks of the lengths beside them; `out` 140 bytes.
#[no_mangle]
pub unsafe extern "C" fn prove_sum(
    section: u32,
    first: usize,
    points: *const u8,
    points_length: usize,
    scalars: *const u8,
    scalars_length: usize,
    out: *mut u8,
) -> i32 {
    answer((|| {
        let scalars = wtns::scalars(block(scalars, scalars_length))?;
        let part = Part::sum(List::numbered(section)?, first, block(points, points_length), &scalars)?;
        room(out, PART).copy_from_slice(&part.write());
        Ok(scalars.len() as i32)
    })())
}

/// The proof of which `parts` are all the sums, 140 bytes each, in any order; `out` as of `prove_groth16`. values: those
/// of the .wtns, at least as far as they are public.
///
/// # Safety
/// The pointers name blocks of the lengths beside them; `random` 128 bytes.
#[no_mangle]
pub unsafe extern "C" fn prove_finish(
    head: *const u8,
    head_length: usize,
    values: *const u8,
    values_length: usize,
    parts: *const u8,
    parts_length: usize,
    random: *const u8,
    out: *mut u8,
    out_length: usize,
) -> i32 {
    answer((|| {
        let head = Head::read(block(head, head_length))?;
        let values = wtns::values(block(values, values_length))?;
        let parts = block(parts, parts_length);
        if parts.len() % PART != 0 {
            return Err(Bad::Form);
        }
        let parts: Vec<Part> = parts.chunks_exact(PART).map(Part::read).collect::<Read<_>>()?;
        put(room(out, out_length), prove::publics(&head, &values)?, || prove::finish(&head, &parts, secret(random)?))
    })())
}
