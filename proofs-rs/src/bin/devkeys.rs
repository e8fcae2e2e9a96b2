//! shardy-devkeys IN.r1cs OUT.zkey --vkey OUT.json [--seed HEX]
//!
//! Writes a proving key in snarkjs's format and its verification key, from toxic waste that follows from the seed
//! (64 hex digits; zeros by default, so that everybody makes the same key). For development only: see `devkeys`.
//! `snarkjs zkey verify` cannot check such a key, because there are no powers of tau to check it against.

use std::path::Path;
use std::process::ExitCode;

use shardy_proofs::devkeys;
use shardy_proofs::vkey_json::development;

const USAGE: &str = "usage: shardy-devkeys IN.r1cs OUT.zkey --vkey OUT.json [--seed HEX]";

struct Arguments {
    r1cs: String,
    zkey: String,
    vkey: String,
    seed: [u8; 32],
}

fn seed(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn arguments() -> Result<Arguments, String> {
    let (mut files, mut vkey, mut chosen) = (Vec::new(), None, [0u8; 32]);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--vkey" => vkey = Some(words.next().ok_or(USAGE)?),
            "--seed" => {
                let text = words.next().ok_or(USAGE)?;
                chosen = seed(&text).ok_or("--seed takes 64 hex digits")?;
            }
            _ if word.starts_with('-') => return Err(USAGE.into()),
            _ => files.push(word),
        }
    }
    match (<[String; 2]>::try_from(files), vkey) {
        (Ok([r1cs, zkey]), Some(vkey)) => Ok(Arguments { r1cs, zkey, vkey, seed: chosen }),
        _ => Err(USAGE.into()),
    }
}

fn run() -> Result<(), String> {
    let given = arguments()?;
    let file = std::fs::read(&given.r1cs).map_err(|problem| format!("cannot read {}: {problem}", given.r1cs))?;
    let name = Path::new(&given.r1cs).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        return Err("the name of the .r1cs file names the circuit: use letters, digits, '_', '-' and '.'".into());
    }
    let parts = devkeys::make(&file, &given.seed).map_err(|bad| format!("{} cannot be used: {bad:?}", given.r1cs))?;
    let tag = devkeys::seed_tag(&given.seed);
    let vkey = development(&parts, name, blake3::hash(&file).as_bytes(), &tag);
    std::fs::write(&given.zkey, parts.write()).map_err(|problem| format!("cannot write {}: {problem}", given.zkey))?;
    std::fs::write(&given.vkey, vkey).map_err(|problem| format!("cannot write {}: {problem}", given.vkey))?;
    println!("{name}: {} wires, {} public, domain {}; DEVELOPMENT KEY", parts.wires, parts.public, parts.domain);
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
