//! A verification key as JSON: what `snarkjs zkey export verificationkey` writes, and a mark for development keys.
//!
//! `vk_alphabeta_12` is left out: verifiers work it out for themselves, since they could not trust it.

use std::fmt::Write;

use crate::curve::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::PrimeField;

use crate::zkey::Parts;

fn decimal(value: Fq) -> String {
    format!("\"{}\"", value.into_bigint())
}

fn pair(value: Fq2) -> String {
    format!("[{}, {}]", decimal(value.c0), decimal(value.c1))
}

fn g1(point: &G1Affine) -> String {
    match point.xy() {
        Some((x, y)) => format!("[{}, {}, \"1\"]", decimal(x), decimal(y)),
        None => "[\"0\", \"1\", \"0\"]".into(),
    }
}

fn g2(point: &G2Affine) -> String {
    match point.xy() {
        Some((x, y)) => format!("[{}, {}, [\"1\", \"0\"]]", pair(x), pair(y)),
        None => "[[\"0\", \"0\"], [\"1\", \"0\"], [\"0\", \"0\"]]".into(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// circuit: its name, of letters, digits, `_`, `-` and `.`; r1cs: BLAKE3 of the file; tag: of the seed.
pub fn development(parts: &Parts, circuit: &str, r1cs: &[u8; 32], tag: &[u8; 16]) -> String {
    let ic: Vec<String> = parts.ic.iter().map(g1).collect();
    format!(
        "{{\n \"protocol\": \"groth16\",\n \"curve\": \"bn128\",\n \"nPublic\": {},\n \"vk_alpha_1\": {},\n \
         \"vk_beta_2\": {},\n \"vk_gamma_2\": {},\n \"vk_delta_2\": {},\n \"IC\": [\n  {}\n ],\n \
         \"shardy\": {{\"dev\": true, \"circuit\": \"{circuit}\", \"r1cs_blake3\": \"{}\", \"seed_tag\": \"{}\"}}\n}}\n",
        parts.public,
        g1(&parts.alpha1),
        g2(&parts.beta2),
        g2(&parts.gamma2),
        g2(&parts.delta2),
        ic.join(",\n  "),
        hex(r1cs),
        hex(tag),
    )
}
