"""Verifying proofs: one by one and in batches of 32, beside snarkjs, libmcl, arkworks compiled natively and py_ecc, all
warm and in one run. Then proving natively (`bench/proving.py`) and in Chromium (`bench/proofs_chromium.py`).

Ours counts parsing of proof and signals; so does snarkjs's. The others start from integers. One core each.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from bench import proofs_chromium, proving
from bench.tab_prover import Missing
from shardy_common.proofs import pure
from shardy_common.proofs.parse import parse_proof, parse_publics, parse_vkey
from shardy_common.proofs.verifier import Verifier

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "tests" / "proofs" / "vectors"
PEERS = ROOT / "tests" / "proofs" / "peers"
REPEATS, BATCHES, BATCH = 400, 20, 32


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each call, ascending, after one to warm up."""
    call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1e3)
    return sorted(found)


def snarkjs_ms() -> dict[str, float] | None:
    """Of snarkjs in a Node process of its own; None where it is not installed."""
    node = shutil.which("node")
    if node is None or not (PEERS / "node_modules" / "snarkjs").exists():
        return None
    files = [VECTORS / f"chain_small.{name}.json" for name in ("vkey", "public", "proof")]
    command = [node, str(ROOT / "bench" / "peer_snarkjs.mjs"), str(PEERS / "package.json"), *map(str, files), "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def peers_ms() -> dict[str, float]:
    """Median of each other verifier that is installed, by name."""
    key = parse_vkey((VECTORS / "chain_small.vkey.json").read_bytes())
    proof = parse_proof((VECTORS / "chain_small.proof.json").read_bytes())
    publics = parse_publics((VECTORS / "chain_small.public.json").read_bytes())
    found = {}
    if snarkjs := snarkjs_ms():
        found["snarkjs"] = snarkjs["p50"]
    with suppress(ImportError, OSError):
        from bench.peer_mcl import Mcl

        mcl = Mcl(key)
        assert mcl.verify(proof, publics) and not mcl.verify(proof, [*publics[:-1], 0])
        found["libmcl"] = median(timed(lambda: mcl.verify(proof, publics), REPEATS))
    with suppress(OSError, subprocess.CalledProcessError):
        from bench.peer_native import Native

        native = Native(key)
        assert native.verify(proof, publics) and not native.verify(proof, [*publics[:-1], 0])
        found["native"] = median(timed(lambda: native.verify(proof, publics), REPEATS))
    with suppress(ImportError):
        found["py_ecc"] = median(timed(lambda: pure.verify(key, proof, publics), 3))
    return found


def run() -> list[dict[str, Any]]:
    """[{name, value, unit, compared_with, ratio, aim}, …]."""
    read = {name: (VECTORS / f"chain_small.{name}.json").read_bytes() for name in ("proof", "public", "vkey")}
    verifier = Verifier()
    handle = verifier.add_key(parse_vkey(read["vkey"]))

    def one() -> None:
        assert verifier.verify(handle, parse_proof(read["proof"]), parse_publics(read["public"]))

    def batch() -> None:
        claims = [(parse_proof(read["proof"]), parse_publics(read["public"])) for _ in range(BATCH)]
        assert all(verifier.verify_batch(handle, claims))

    single, together = timed(one, REPEATS), timed(batch, BATCHES)
    peers = peers_ms()

    def row(name: str, value: float, aim: str, other: str = "") -> dict[str, Any]:
        compared = peers.get(other)
        text = f"{other}: {compared:.4g} ms" if compared else ""
        return {"name": name, "value": value, "unit": "ms", "compared_with": text,
                "ratio": value / compared if compared else None, "aim": aim}  # fmt: skip

    p50 = median(single)
    figures = [
        row("verify_p50_ms", p50, "< 2", "snarkjs"),
        row("verify_p99_ms", single[int(len(single) * 0.99)], "< 10"),
        row("verify_batch32_ms_each", median(together) / BATCH, "< 0.6"),
    ]
    figures += [row(f"verify_p50_ms_beside_{name}", p50, "", name) for name in peers if name != "snarkjs"]
    return figures + proving.run() + in_chromium()


def in_chromium() -> list[dict[str, Any]]:
    """Proving in a tab, beside snarkjs there; empty, with a word why, where something is not installed."""
    try:
        found = proofs_chromium.measure()
    except Missing as missing:
        print(f"proving in Chromium is not measured: {missing}", file=sys.stderr)
        return []
    figures = []
    for name, value in found.items():
        peer = found.get(f"snarkjs_{name}")
        figures.append({"name": name, "value": value, "unit": name.rpartition("_")[2].replace("mib", "MiB"),
                        "compared_with": f"snarkjs: {peer:.4g} s" if peer else "",
                        "ratio": value / peer if peer else None, "aim": "ratio < 0.5" if peer else ""})  # fmt: skip
    return figures
