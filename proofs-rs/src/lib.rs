//! Groth16 on BN254 in snarkjs's formats: verifier, prover and development keys.

pub mod bytes;
pub mod devkeys;
pub mod numbers;
pub mod r1cs;
pub mod vkey_json;
pub mod wtns;
pub mod zkey;
