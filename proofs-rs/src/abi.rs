//! The exported functions. Numbers and points are in wire form (`numbers`); pointers are offsets in linear memory.
//!
//! Results: 0 or more as each function says, or −1 form, −2 kind, −3 range, −4 too large, −5 mismatch, −6 no such key.
//! Nothing here panics on what callers pass, as long as the blocks that they name are theirs.

use std::sync::{Mutex, PoisonError};

use crate::curve::Fr;

use crate::bytes::{Bad, Read};
use crate::numbers::{from_wire, g1_to_wire, g2_to_wire, to_wire, unsigned};
use crate::verify::{Claim, Key, Proof, PROOF, PUBLIC_MAX};
use crate::{poseidon, prove, wtns, zkey};

/// Keys held at most: each takes some hundred KiB.
const KEYS_MAX: usize = 256;
/// Proofs in a batch at most.
const BATCH_MAX: usize = 4096;

static KEYS: Mutex<Vec<Option<Key>>> = Mutex::new(Vec::new());

const NO_KEY: i32 = -6;

fn code(bad: Bad) -> i32 {
    match bad {
        Bad::Form => -1,
        Bad::Kind => -2,
        Bad::Range => -3,
        Bad::Large => -4,
        Bad::Mismatch => -5,
    }
}

fn answer(result: Read<i32>) -> i32 {
    result.unwrap_or_else(code)
}

/// # Safety
/// `ptr` names `length` bytes that nobody writes meanwhile, or `length` is 0.
unsafe fn block<'a>(ptr: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        &[]
    } else {
        core::slice::from_raw_parts(ptr, length)
    }
}

/// # Safety
/// `ptr` names `length` bytes that nobody else uses meanwhile.
unsafe fn room<'a>(ptr: *mut u8, length: usize) -> &'a mut [u8] {
    if length == 0 {
        &mut []
    } else {
        core::slice::from_raw_parts_mut(ptr, length)
    }
}

/// Version of this ABI.
#[no_mangle]
pub extern "C" fn abi_version() -> u32 {
    1
}

/// A block of `length` bytes, or null.
#[no_mangle]
pub extern "C" fn alloc_bytes(length: usize) -> *mut u8 {
    let mut bytes: Vec<u8> = Vec::new();
    if length == 0 || bytes.try_reserve_exact(length).is_err() {
        return core::ptr::null_mut();
    }
    core::mem::ManuallyDrop::new(bytes).as_mut_ptr()
}

/// Give a block back.
///
/// # Safety
/// `ptr` and `length` are those of one `alloc_bytes` that was not given back.
#[no_mangle]
pub unsafe extern "C" fn free_bytes(ptr: *mut u8, length: usize) {
    if !ptr.is_null() {
        drop(Vec::from_raw_parts(ptr, 0, length));
    }
}

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
        _ => NO_KEY,
    }
}

fn with_key(handle: u32, work: impl FnOnce(&Key) -> Read<i32>) -> i32 {
    let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    match keys.get(handle as usize) {
        Some(Some(key)) => answer(work(key)),
        _ => NO_KEY,
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

/// How many public signals a .zkey has.
///
/// # Safety
/// `key` names `key_length` bytes.
#[no_mangle]
pub unsafe extern "C" fn zkey_publics(key: *const u8, key_length: usize) -> i32 {
    answer(zkey::Zkey::read(block(key, key_length)).map(|key| key.public as i32))
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
        let key = zkey::Zkey::read(block(key, key_length))?;
        let witness = wtns::read(block(witness, witness_length))?;
        let random: &[u8; prove::RANDOM] = block(random, prove::RANDOM).try_into().map_err(|_| Bad::Form)?;
        let publics = prove::publics(&key, &witness)?;
        if out_length != PROOF + 32 * publics.len() {
            return Err(Bad::Form);
        }
        let proof = prove::prove(&key, &witness, random)?;
        let out = room(out, out_length);
        out[..64].copy_from_slice(&g1_to_wire(&proof.a));
        out[64..192].copy_from_slice(&g2_to_wire(&proof.b));
        out[192..PROOF].copy_from_slice(&g1_to_wire(&proof.c));
        for (part, number) in out[PROOF..].chunks_exact_mut(32).zip(publics) {
            part.copy_from_slice(&unsigned(number));
            part.reverse();
        }
        Ok(publics.len() as i32)
    })())
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
