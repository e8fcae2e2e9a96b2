//! Verification keys by handle, proofs checked under them, and Poseidon.

use std::sync::{Mutex, PoisonError};

use super::{answer, block, code, room, NO_HANDLE};
use crate::bytes::{Bad, Read};
use crate::curve::Fr;
use crate::numbers::{from_wire, to_wire};
use crate::poseidon;
use crate::verify::{Claim, Key, Proof, PROOF, PUBLIC_MAX};

/// Keys held at most: each takes some hundred KiB.
const KEYS_MAX: usize = 256;
/// Proofs in a batch at most.
const BATCH_MAX: usize = 4096;

static KEYS: Mutex<Vec<Option<Key>>> = Mutex::new(Vec::new());

/// Prepare a verification key (`verify::Key::read`); its handle, 0 or more.
///
/// # Safety
/// `ptr` names `length` bytes.
#[no_mangle]
pub unsafe extern "C" fn add_key(ptr: *const u8, length: usize) -> i32 {
    answer(Key::read(block(ptr, length)).and_then(|key| {
        let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        let free = keys.iter().position(Option::is_none);
        match free {
            Some(at) => keys[at] = Some(key),
            None if keys.len() < KEYS_MAX => keys.push(Some(key)),
            None => return Err(Bad::Large),
        }
        Ok(free.unwrap_or(keys.len() - 1) as i32)
    }))
}

/// Forget a key; its handle may be given to another one. 0, or −6.
#[no_mangle]
pub extern "C" fn drop_key(handle: u32) -> i32 {
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    match keys.get_mut(handle as usize) {
        Some(place) if place.is_some() => {
            *place = None;
            0
        }
        _ => NO_HANDLE,
    }
}

fn with_key(handle: u32, work: impl FnOnce(&Key) -> Read<i32>) -> i32 {
    let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    match keys.get(handle as usize) {
        Some(Some(key)) => answer(work(key)),
        _ => NO_HANDLE,
    }
}

/// 1 when the proof of 256 bytes proves the `count` public signals of 32 bytes each, 0 when not; −3 for numbers out of
/// range and points off their curve or outside their group, −5 for another number of signals than the key has.
///
/// # Safety
/// `proof` names 256 bytes, `publics` 32·count.
#[no_mangle]
pub unsafe extern "C" fn verify(handle: u32, proof: *const u8, publics: *const u8, count: usize) -> i32 {
    if count > PUBLIC_MAX {
        return code(Bad::Mismatch);
    }
    with_key(handle, |key| {
        let publics = key.publics(block(publics, 32 * count))?;
        Ok(i32::from(key.accepts(&Proof::read(block(proof, PROOF))?, &publics)))
    })
}

/// Check `batch` proofs (256 bytes each) of `count` signals each with `batch` factors of 16 random bytes; `out` gets a
/// byte for each proof, 1 or 0, where 0 also stands for what `verify` would refuse. 0, −4, −5 or −6.
///
/// # Safety
/// `proofs` names 256·batch bytes, `publics` 32·count·batch, `factors` 16·batch, `out` batch.
#[no_mangle]
pub unsafe extern "C" fn verify_batch(
    handle: u32,
    batch: usize,
    proofs: *const u8,
    publics: *const u8,
    count: usize,
    factors: *const u8,
    out: *mut u8,
) -> i32 {
    if batch > BATCH_MAX {
        return code(Bad::Large);
    }
    with_key(handle, |key| {
        if count != key.public() {
            return Err(Bad::Mismatch);
        }
        let (proofs, publics) = (block(proofs, PROOF * batch), block(publics, 32 * count * batch));
        let (factors, out) = (block(factors, 16 * batch), room(out, batch));
        let (mut claims, mut places) = (Vec::new(), Vec::new());
        for at in 0..batch {
            out[at] = 0;
            let proof = Proof::read(&proofs[PROOF * at..PROOF * (at + 1)]);
            let signals = key.publics(&publics[32 * count * at..32 * count * (at + 1)]);
            let factor: [u8; 16] = factors[16 * at..16 * (at + 1)].try_into().map_err(|_| Bad::Form)?;
            if let (Ok(proof), Ok(signals)) = (proof, signals) {
                claims.push(Claim::new(proof, signals, &factor));
                places.push(at);
            }
        }
        for (at, verdict) in places.iter().zip(key.accepts_all(&claims)) {
            out[*at] = u8::from(verdict);
        }
        Ok(0)
    })
}

/// Poseidon of `count` (1 to 12) elements of 32 bytes each; `out` gets 32 bytes. 0, −3 or −4.
///
/// # Safety
/// `inputs` names 32·count bytes, `out` 32.
#[no_mangle]
pub unsafe extern "C" fn poseidon_hash(inputs: *const u8, count: usize, out: *mut u8) -> i32 {
    if count == 0 || count > poseidon::ARITY_MAX {
        return code(Bad::Large);
    }
    let values: Read<Vec<Fr>> = block(inputs, 32 * count).chunks_exact(32).map(from_wire).collect();
    answer(values.and_then(|values| {
        let hash = poseidon::poseidon(&values).ok_or(Bad::Large)?;
        room(out, 32).copy_from_slice(&to_wire(&hash));
        Ok(0)
    }))
}
