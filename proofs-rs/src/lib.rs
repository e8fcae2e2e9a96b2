//! Groth16 on BN254 in snarkjs's formats: verifier, prover and development keys (README.md).
//!
//! One crate, two modules: a server's with wide arithmetic, a browser's without. Both export all of `abi`.

pub mod abi;
pub mod boolean;
pub mod bytes;
pub mod curve;
pub mod devkeys;
pub mod montgomery;
pub mod msm;
pub mod numbers;
pub mod plan;
pub mod plan_file;
pub mod poseidon;
pub mod prove;
pub mod r1cs;
pub mod solve;
#[cfg(test)]
mod solve_tests;
pub mod system;
pub mod verify;
pub mod vkey_json;
pub mod wtns;
pub mod zkey;
