//! Circuits by handle, and witnesses of them.

use std::sync::{Mutex, PoisonError};

use super::{answer, block, room, NO_HANDLE};
use crate::bytes::{Bad, Read};
use crate::curve::Fr;
use crate::numbers::from_plain;
use crate::solve::Solver;
use crate::wtns;

/// Circuits held at most: a large one takes some ten MiB.
const SOLVERS_MAX: usize = 16;

static SOLVERS: Mutex<Vec<Option<Solver>>> = Mutex::new(Vec::new());

/// Read a circuit, out of an .r1cs or of what `solver_save` gave; its handle, 0 or more. The order of solving is found for
/// an .r1cs, which takes seconds for a large one, and stands in the other file.
///
/// # Safety
/// `ptr` names `length` bytes.
#[no_mangle]
pub unsafe extern "C" fn solver_open(ptr: *const u8, length: usize) -> i32 {
    let mut solvers = SOLVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let free = match solvers.iter().position(Option::is_none) {
        Some(free) => free,
        None if solvers.len() < SOLVERS_MAX => {
            solvers.push(None);
            solvers.len() - 1
        }
        None => return super::code(Bad::Large),
    };
    answer(Solver::read(block(ptr, length)).map(|solver| {
        solvers[free] = Some(solver);
        free as i32
    }))
}

/// Forget a circuit; its handle may be given to another one. 0, or −6.
#[no_mangle]
pub extern "C" fn solver_drop(handle: u32) -> i32 {
    let mut solvers = SOLVERS.lock().unwrap_or_else(PoisonError::into_inner);
    match solvers.get_mut(handle as usize) {
        Some(place) if place.is_some() => {
            *place = None;
            0
        }
        _ => NO_HANDLE,
    }
}

fn with_solver(handle: u32, work: impl FnOnce(&Solver) -> Read<i32>) -> i32 {
    let solvers = SOLVERS.lock().unwrap_or_else(PoisonError::into_inner);
    match solvers.get(handle as usize) {
        Some(Some(solver)) => answer(work(solver)),
        _ => NO_HANDLE,
    }
}

/// How many wires the circuit has, with the constant.
#[no_mangle]
pub extern "C" fn solver_wires(handle: u32) -> i32 {
    with_solver(handle, |solver| Ok(solver.system.wires as i32))
}

/// How many input signals the circuit has.
#[no_mangle]
pub extern "C" fn solver_inputs(handle: u32) -> i32 {
    with_solver(handle, |solver| Ok(solver.system.inputs.len() as i32))
}

/// The circuit with its order of solving, for `solver_open`: how many bytes that is, and with room for just so many, the
/// bytes. Form for another room than that or none.
///
/// # Safety
/// `out` names `out_length` bytes.
#[no_mangle]
pub unsafe extern "C" fn solver_save(handle: u32, out: *mut u8, out_length: usize) -> i32 {
    with_solver(handle, |solver| {
        let file = solver.save();
        let size = i32::try_from(file.len()).map_err(|_| Bad::Large)?;
        if out_length > 0 {
            if out_length != file.len() {
                return Err(Bad::Form);
            }
            room(out, out_length).copy_from_slice(&file);
        }
        Ok(size)
    })
}

/// All wires from `count` inputs of 32 bytes each, little-endian, public ones first; `out` gets a .wtns, 76 bytes and 32
/// a wire. The number of wires. −8 where the inputs break a constraint.
///
/// # Safety
/// `inputs` names 32·count bytes, `out` out_length.
#[no_mangle]
pub unsafe extern "C" fn solve(handle: u32, inputs: *const u8, count: usize, out: *mut u8, out_length: usize) -> i32 {
    with_solver(handle, |solver| {
        if count != solver.system.inputs.len() {
            return Err(Bad::Mismatch);
        }
        if out_length != solver.witness_length() {
            return Err(Bad::Form);
        }
        let given: Vec<Fr> = block(inputs, 32 * count).chunks_exact(32).map(from_plain).collect::<Read<_>>()?;
        wtns::write(&solver.solve(&given)?, room(out, out_length))?;
        Ok(solver.system.wires as i32)
    })
}
