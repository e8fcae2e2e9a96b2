//! `vectors/engine.json` through the exported functions; vectors/generate.py describes the file.

use crate::tests::bytes;
use crate::*;
use serde_json::Value;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn number<T: TryFrom<i64>>(value: &Value) -> T {
    T::try_from(value.as_i64().unwrap()).ok().unwrap()
}

fn float(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

/// An array of the file: its bytes and its shape.
fn array(spec: &Value) -> (Vec<u8>, Vec<usize>) {
    let shape: Vec<usize> = spec["shape"].as_array().unwrap().iter().map(number).collect();
    let width = if matches!(spec["type"].as_str().unwrap(), "i8" | "u8") { 1 } else { 4 };
    let len = shape.iter().product::<usize>() * width;
    let data = if let Some(text) = spec.get("xof") {
        bytes(text.as_str().unwrap(), len)
    } else if let Some(value) = spec.get("fill") {
        vec![number::<i8>(value) as u8; len]
    } else if spec.get("ramp").is_some() {
        (0..len).map(|at| (at % 251) as u8).collect()
    } else {
        hex(spec["hex"].as_str().unwrap())
    };
    assert_eq!(data.len(), len);
    (data, shape)
}

fn words(data: &[u8]) -> Vec<u32> {
    data.chunks(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn floats(spec: &Value) -> (Vec<f32>, Vec<usize>) {
    let (data, shape) = array(spec);
    (words(&data).into_iter().map(f32::from_bits).collect(), shape)
}

fn bytes_i8(spec: &Value) -> (Vec<i8>, Vec<usize>) {
    let (data, shape) = array(spec);
    (data.into_iter().map(|byte| byte as i8).collect(), shape)
}

fn le<T: Copy>(values: &[T], to: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|value| to(*value)).collect()
}

fn of_i8(values: &[i8]) -> Vec<u8> {
    values.iter().map(|value| *value as u8).collect()
}

fn matches(name: &str, got: &[u8], want: &Value) {
    if let Some(text) = want.get("hex") {
        assert_eq!(got, hex(text.as_str().unwrap()), "{name}");
    } else {
        assert_eq!(blake3::hash(got).as_bytes()[..], hex(want["blake3"].as_str().unwrap()), "{name}");
    }
}

fn product(args: &Value) -> (Vec<i8>, Vec<i8>, Vec<i32>, [u32; 3]) {
    let ((a, left), (b, right)) = (bytes_i8(&args["a"]), bytes_i8(&args["b"]));
    let mut c = vec![-1; left[0] * right[0]];
    let s = [left[0] as u32, right[0] as u32, left[1] as u32];
    assert_eq!(unsafe { matmul_i8(a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), s[0], s[1], s[2]) }, 0);
    (a, b, c, s)
}

/// q and scale of rows `row0..row0 + rows` of x, segment by segment as docs/protocol.md §4.3 says.
fn segments(x: &[f32], cols: usize, row0: usize, rows: usize, args: &Value) -> (Vec<i8>, Vec<f32>) {
    let axis: i32 = number(&args["ema_axis"]);
    let (lo, hi, alpha) = (float(&args["lo"]), float(&args["hi"]), float(&args["alpha"]));
    let absmax = if args["scale"] == "tensor" { lo.abs().max(hi.abs()) } else { -1.0 };
    let segment = if axis == 0 { number(&args["segment_rows"]) } else { rows };
    let (mut q, mut scale) = (vec![0; rows * cols], vec![0.0; rows]);
    for start in (row0..row0 + rows).step_by(segment) {
        let end = (start + segment).min(row0 + rows);
        let warm = start.min(if axis == 0 { number(&args["warm_rows"]) } else { 0 });
        let code = unsafe {
            let (rows_in, from) = ((end - start + warm) as u32, x.as_ptr().add((start - warm) * cols));
            let (to, steps) = (q.as_mut_ptr().add((start - row0) * cols), scale.as_mut_ptr().add(start - row0));
            preexec_f32(from, rows_in, warm as u32, cols as u32, lo, hi, axis, alpha, absmax, to, steps)
        };
        assert_eq!(code, 0);
    }
    (q, scale)
}

fn run(name: &str, function: &str, args: &Value, want: &Value) {
    match function {
        "clamp" => {
            let (mut x, _) = floats(&args["x"]);
            let code = unsafe { clamp_f32(x.as_mut_ptr(), x.len() as u32, float(&args["lo"]), float(&args["hi"])) };
            assert_eq!(code, 0);
            matches(name, &le(&x, f32::to_le_bytes), &want["y"]);
        }
        "ema" => {
            let (mut x, s) = floats(&args["x"]);
            let (axis, alpha) = (number(&args["axis"]), float(&args["alpha"]));
            assert_eq!(unsafe { ema_f32(x.as_mut_ptr(), s[0] as u32, s[1] as u32, axis, alpha) }, 0);
            matches(name, &le(&x, f32::to_le_bytes), &want["y"]);
        }
        "quantise" => {
            let (x, s) = floats(&args["x"]);
            let (mut q, mut scale, m) = (vec![0i8; x.len()], vec![0f32; s[0]], float(&args["tensor_absmax"]));
            let (to, steps) = (q.as_mut_ptr(), scale.as_mut_ptr());
            assert_eq!(unsafe { quantise_f32(x.as_ptr(), s[0] as u32, s[1] as u32, m, to, steps) }, 0);
            matches(name, &of_i8(&q), &want["q"]);
            matches(name, &le(&scale, f32::to_le_bytes), &want["scale"]);
        }
        "dequantise" => {
            let (data, s) = array(&args["c"]);
            let c: Vec<i32> = words(&data).into_iter().map(|word| word as i32).collect();
            let ((a, _), (b, _), mut d) = (floats(&args["a_scale"]), floats(&args["b_scale"]), vec![0f32; c.len()]);
            let (rows, cols) = (s[0] as u32, s[1] as u32);
            let code = unsafe { dequantise_i32(c.as_ptr(), rows, cols, a.as_ptr(), b.as_ptr(), d.as_mut_ptr()) };
            assert_eq!(code, 0);
            matches(name, &le(&d, f32::to_le_bytes), &want["d"]);
        }
        "preexec" => {
            let (x, s) = floats(&args["x"]);
            let (q, scale) = segments(&x, s[1], 0, s[0], args);
            matches(name, &of_i8(&q), &want["q"]);
            matches(name, &le(&scale, f32::to_le_bytes), &want["scale"]);
            for split in args["splits"].as_array().unwrap() {
                let (row0, rows) = (number::<usize>(&split[0]), number::<usize>(&split[1]));
                let (part, steps) = segments(&x, s[1], row0, rows, args);
                assert_eq!(part, q[row0 * s[1]..(row0 + rows) * s[1]], "{name}");
                assert_eq!(steps, scale[row0..row0 + rows], "{name}");
            }
        }
        "matmul" => matches(name, &le(&product(args).2, i32::to_le_bytes), &want["c"]),
        "freivalds" => {
            let (a, b, mut c, s) = product(args);
            for edit in args["edits"].as_array().unwrap() {
                let at = number::<usize>(&edit[0]) * s[1] as usize + number::<usize>(&edit[1]);
                c[at] = i32::try_from(i64::from(c[at]) + number::<i64>(&edit[2])).unwrap();
            }
            let (seed, mut bad) = (hex(args["seed"].as_str().unwrap()), vec![0u8; s[0] as usize]);
            let (seed, rounds) = (seed.as_ptr(), number(&args["rounds"]));
            let (pa, pb, pc) = (a.as_ptr(), b.as_ptr(), c.as_ptr());
            assert!(unsafe { freivalds_i8(pa, pb, pc, s[0], s[1], s[2], seed, rounds, bad.as_mut_ptr()) } >= 0);
            let rows: Vec<usize> = (0..bad.len()).filter(|row| bad[*row] == 1).collect();
            assert_eq!(rows, want["bad"].as_array().unwrap().iter().map(number).collect::<Vec<usize>>(), "{name}");
        }
        "blake3" | "xof" => {
            let (data, _) = array(&args["data"]);
            let len = args.get("bytes").map_or(32, number::<usize>);
            let mut out = vec![0; len];
            assert_eq!(unsafe { blake3_xof(data.as_ptr(), data.len() as u32, out.as_mut_ptr(), len as u32) }, 0);
            matches(name, &out, &want[if function == "xof" { "out" } else { "digest" }]);
            let streamed = unsafe {
                let handle = blake3_new();
                for part in data.chunks(777) {
                    assert_eq!(blake3_update(handle, part.as_ptr(), part.len() as u32), 0);
                }
                let mut digest = [0; 32];
                assert_eq!(blake3_finish(handle, digest.as_mut_ptr()), 0);
                digest
            };
            assert_eq!(out[..len.min(32)], streamed[..len.min(32)], "{name}");
        }
        "probe" => {
            let mut state = hex(args["seed"].as_str().unwrap());
            let [m, n, k] = ["m", "n", "k"].map(|key| number::<usize>(&args[key]));
            for _ in 0..number::<u32>(&args["rounds"]) {
                let draw = |letter: u8, len: usize| {
                    let (key, mut out) = ([state.clone(), vec![letter]].concat(), vec![0i8; len]);
                    unsafe { blake3_xof(key.as_ptr(), 33, out.as_mut_ptr().cast(), len as u32) };
                    out
                };
                let (a, b, mut c) = (draw(b'A', m * k), draw(b'B', n * k), vec![0i32; m * n]);
                unsafe { matmul_i8(a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), m as u32, n as u32, k as u32) };
                state = blake3::hash(&le(&c, i32::to_le_bytes)).as_bytes().to_vec();
            }
            matches(name, &state, &want["digest"]);
        }
        other => panic!("unknown function {other}"),
    }
}

#[test]
fn every_vector() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/engine.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 250);
    for case in cases {
        let function = case["function"].as_str().unwrap();
        run(&format!("{function}: {}", case["name"]), function, &case["args"], &case["want"]);
    }
}
