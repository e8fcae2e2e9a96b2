"""Proving products: `Prover` on one and two threads, and the tabs' prover in Node, beside snarkjs in Node, in one run;
sizes of what a prover needs; how long the circuits and their development keys take to make from nothing.

Both start from the same inputs: ours counts the packing, the witness and a check of the proof, snarkjs's the witness by
circom's calculator. snarkjs spreads its sums over all cores itself. Keys are read before; medians of warm proofs.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.tab_prover import Missing, build_driver, order, run_threads
from bench.tab_prover import product as tab_product
from shardy_common.proofs.prover import Prover, solving_plan
from shardy_common.proofs.signals import Circuit, Context, public_signals, witness

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "tests" / "proofs" / "peers"
SHAPES = {"n8": (8, 8, 8), "n16": (16, 16, 16), "n32": (32, 32, 32), "n64": (64, 64, 64), "8x384x8": (8, 384, 8)}
REPEATS = {"n8": 9, "n16": 7, "n32": 5, "n64": 3, "8x384x8": 3}
NAIVE = "n32"


def circuits() -> Any | None:
    """circuits/build.py, and with it a program that makes keys; None where Node.js or Rust is not there."""
    if shutil.which("node") is None or shutil.which("cargo") is None:
        print("proving is not measured: it needs Node.js (circom) and Rust (keys)", file=sys.stderr)
        return None
    spec = importlib.util.spec_from_file_location("circuits_build", ROOT / "circuits" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["circuits_build"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    subprocess.run(["make", "-s", "devkeys"], cwd=ROOT, check=True)
    return module


Given = tuple[Circuit, Context, bytes, bytes, bytes]


def product(shape: Circuit) -> Given:
    """A random product of the circuit's whole size."""
    generator = np.random.default_rng(1)
    a, b = (generator.integers(-128, 128, size, np.int8) for size in ((shape.m, shape.k), (shape.n, shape.k)))
    c = (a.astype(np.int32) @ b.astype(np.int32).T).astype("<i4")
    context = Context("bench", bytes(32), b"nonce", shape.name, "v2-1", bytes(32), shape.m, shape.k, shape.n, b"",
                      *[bytes(32)] * 3)  # fmt: skip
    return shape, context, a.tobytes(), b.tobytes(), c.tobytes()


def ours_s(zkey: Path, plan: bytes, given: Given, threads: int, repeats: int) -> float:
    with Prover(zkey, plan, threads) as prover:
        assert prover.prove(*given)[1] == list(public_signals(*given))
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            prover.prove(*given)
            times.append(time.perf_counter() - start)
    return median(times)


def snarkjs_s(folder: Path, given: Given, repeats: int) -> float | None:
    """Of snarkjs in a Node process of its own; None where it is not installed."""
    if not (PEERS / "node_modules" / "snarkjs").exists():
        return None
    inputs = folder / "bench_inputs.json"
    inputs.write_text(json.dumps(witness(*given).as_json()))
    files = [folder / f"{folder.name}.wasm", folder / f"{folder.name}.zkey"]
    script = ROOT / "bench" / "peer_snarkjs_prove.mjs"
    command = ["node", str(script), str(PEERS / "package.json"), str(inputs), *map(str, files), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found: float = json.loads(done.stdout)["p50_s"]
    return found


def node_s(driver: Path, folder: Path, shape: tuple[int, int, int], repeats: int) -> float:
    """Of the prover of tabs under Node, with two instances."""
    wanted = order("time", tab_product(shape, 1), 2, times=repeats)
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_threads("node", driver, folder, wanted, Path(scratch))["outcome"]
    return float(median(outcome["seconds"]))


def naive_constraints(build: Any, shape: tuple[int, int, int]) -> int:
    """Constraints where every product is multiplied out."""
    name = "naive-" + "x".join(map(str, shape))
    folder = build.BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.circom").write_text(
        'pragma circom 2.1.6;\ninclude "../../compare/naive_product.circom";\n'
        f"component main = NaiveProduct({', '.join(map(str, shape))});\n"
    )
    words = ["node_modules/circom2/cli.js", f"build/{name}/main.circom", "--r1cs", "--O2", "-o", f"build/{name}"]
    with build.alone(name):
        subprocess.run(["node", *words], cwd=build.FOLDER, check=True, capture_output=True, timeout=900)
        found: int = build.header((folder / "main.r1cs").read_bytes())["constraints"]
    return found


def run() -> list[dict[str, Any]]:
    """[{name, value, unit, compared_with, ratio, aim}, …]; empty where circuits cannot be compiled."""
    build = circuits()
    if build is None:
        return []
    figures: list[dict[str, Any]] = []

    def row(name: str, value: float, unit: str, aim: str = "", other: str = "", compared: float | None = None) -> None:
        text = f"{other}: {compared:.4g} {unit}" if compared else ""
        figures.append({"name": name, "value": value, "unit": unit, "compared_with": text,
                        "ratio": value / compared if compared else None, "aim": aim})  # fmt: skip

    for shape in SHAPES.values():
        shutil.rmtree(build.BUILD / build.name_of(shape), ignore_errors=True)
    start = time.perf_counter()
    try:
        build.build(list(SHAPES.values()), str(ROOT / "proofs-rs/target/release/shardy-devkeys"), 2)
    except build.Unbuildable as problem:
        print(f"proving is not measured: {problem}", file=sys.stderr)
        return []
    row("make_circuits_s", time.perf_counter() - start, "s", "< 120")
    try:
        driver: Path | None = build_driver("threads", Path(tempfile.mkdtemp(prefix="shardy-driver-")))
    except Missing as missing:
        print(f"proving in Node is not measured: {missing}", file=sys.stderr)
        driver = None
    for name, shape in SHAPES.items():
        folder = build.BUILD / build.name_of(shape)
        zkey, r1cs = folder / f"{folder.name}.zkey", (folder / f"{folder.name}.r1cs").read_bytes()
        plan, given = solving_plan(r1cs), product(Circuit(*shape))
        peer = snarkjs_s(folder, given, REPEATS[name])
        one, two = (ours_s(zkey, plan, given, threads, REPEATS[name]) for threads in (1, 2))
        row(f"prove_{name}_s", two, "s", "below snarkjs", "snarkjs", peer)
        row(f"prove_{name}_1thread_s", one, "s", "", "snarkjs", peer)
        if driver:
            row(f"prove_{name}_node_s", node_s(driver, folder, shape, REPEATS[name]), "s", "", "snarkjs", peer)
        if peer:
            row(f"snarkjs_prove_{name}_s", peer, "s")
        if name == NAIVE:
            for kind, data in (("zkey", zkey.read_bytes()), ("r1cs", r1cs), ("plan", plan)):
                row(f"{kind}_{name}_bytes", len(data), "B")
                row(f"{kind}_{name}_gzip_bytes", len(gzip.compress(data, 6)), "B")
            ours, naive = build.header(r1cs)["constraints"], naive_constraints(build, shape)
            row(f"constraints_{name}", ours, "", "", "multiplied out", naive)
            row(f"constraints_{name}_naive", naive, "")
    if driver:
        shutil.rmtree(driver)
    return figures
