"""Proofs in headless Chromium: the prover of tabs beside snarkjs's browser build, warm, in turns, in one browser.

    python -m bench.proofs_chromium [8x8x8 …]

Both start from the circuit's inputs: each solves the circuit, proves, and gives proof and public signals. Both may use
as many workers as the machine has cores, and both have the key in memory. snarkjs is loaded here as a program (GPL-3.0)
and shipped nowhere.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.tab_prover import CHROMIUM, FLAGS, ROOT, Missing, Site, build_driver, keyed, order, product
from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.signals import public_signals, witness
from shardy_common.proofs.verifier import Verifier

SHAPES = ((8, 8, 8), (16, 16, 16), (32, 32, 32), (64, 64, 64), (8, 384, 8))
REPEATS = 5
SNARKJS = ROOT / "circuits/node_modules/snarkjs/build"

# What snarkjs needs is fetched once; `fullProve` solves and proves.
LOAD = """async ([zkey, wasm]) => {
  const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  window.theirs = { zkey: await bytes(zkey), wasm: await bytes(wasm) };
}"""
THEIRS = """async (input) => {
  const start = performance.now();
  const file = (data) => ({ type: "mem", data });
  const made = await snarkjs.groth16.fullProve(input, file(theirs.wasm), file(theirs.zkey));
  return { seconds: (performance.now() - start) / 1e3, proof: made.proof, publics: made.publicSignals };
}"""
OURS = "(order) => window.prover.once(order)"


def name_of(shape: tuple[int, int, int]) -> str:
    """n32 for 32×32×32, else 8x384x8."""
    return f"n{shape[0]}" if len(set(shape)) == 1 else "x".join(map(str, shape))


class Bench:
    def __init__(self, page: Any, instances: int) -> None:
        self.page, self.instances, self.verifier = page, instances, Verifier()

    def shape(self, shape: tuple[int, int, int], folder: Path) -> dict[str, float]:
        made = product(shape, 1)
        right = public_signals(made["circuit"], made["context"], made["a"], made["b"], made["c"])
        inputs = witness(made["circuit"], made["context"], made["a"], made["b"], made["c"]).as_json()
        key = self.verifier.add_key(parse_vkey((folder / "verification_key.json").read_bytes()))
        zkey, r1cs, wasm = (f"/{folder.name}/{folder.name}.{ending}" for ending in ("zkey", "r1cs", "wasm"))
        opened = self.page.evaluate("(given) => window.prover.open(...given)", [zkey, r1cs, self.instances])
        self.page.evaluate(LOAD, [zkey, wasm])
        asked = order("time", made, self.instances)
        seconds: dict[str, list[float]] = {"": [], "snarkjs_": []}
        memory = 0.0
        for turn in range(REPEATS + 1):
            for prefix, script, given in (("", OURS, asked), ("snarkjs_", THEIRS, inputs)):
                found = self.page.evaluate(script, given)
                signals = parse_publics(json.dumps(found["publics"]).encode())
                assert signals == list(right)
                assert self.verifier.verify(key, parse_proof(json.dumps(found["proof"]).encode()), signals)
                memory = found.get("memoryBytes", memory)
                # The first is for warming up.
                if turn:
                    seconds[prefix].append(found["seconds"])
        name = name_of(shape)
        figures = {f"{prefix}prove_{name}_chromium_s": median(found) for prefix, found in seconds.items()}
        return figures | {f"open_{name}_chromium_s": opened, f"prove_{name}_chromium_mib": memory / 2**20}


def measure(shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> dict[str, float]:
    """Medians by name: prove_n32_chromium_s, snarkjs_prove_n32_chromium_s, …; beside them open_…_s (reading key and
    .r1cs, once) and …_mib (linear memory of our instances). Missing says what has to be installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as problem:
        raise Missing("playwright is not installed") from problem
    from shardy_gateway.app import PAGE_HEADERS

    if not CHROMIUM:
        raise Missing("no Chromium on this machine (set SHARDY_CHROMIUM)")
    folders = {shape: keyed(shape) for shape in shapes}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        driver = build_driver("page", Path(scratch))
        served = {folder.name: folder for folder in folders.values()}
        site = Site({"": driver, "snarkjs": SNARKJS, **served}, PAGE_HEADERS)
        with site, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page()
            page.set_default_timeout(600_000)
            page.goto(f"{site.url}/page.html")
            page.wait_for_function("() => window.prover !== undefined")
            page.add_script_tag(url=f"{site.url}/snarkjs/snarkjs.min.js")
            bench = Bench(page, os.cpu_count() or 1)
            for shape, folder in folders.items():
                figures |= bench.shape(shape, folder)
            browser.close()
    return figures


def main() -> int:
    shapes = [tuple(map(int, text.split("x"))) for text in sys.argv[1:]]
    try:
        figures = measure(tuple(shapes) or SHAPES)  # type: ignore[arg-type]
    except Missing as problem:
        print(problem, file=sys.stderr)
        return 2
    for name, value in figures.items():
        print(f"{name:36} {value:10.3f}")
    for name in [name for name in figures if name.startswith("snarkjs_")]:
        ours = figures[name.removeprefix("snarkjs_")]
        print(f"{name.removeprefix('snarkjs_'):36} {ours / figures[name]:10.3f} of snarkjs's")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
