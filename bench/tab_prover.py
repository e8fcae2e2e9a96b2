"""The prover of tabs as tests and benchmarks drive it: its driver built, a site that serves it, orders, and outcomes.

The driver (web-worker/tests/prove/driver.ts) is the same program under Node, Bun and Chromium.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from blake3 import blake3

from shardy_common.proofs.signals import Circuit, Context

SMALLEST = (8, 8, 8)
"""The circuit that tests prove with."""
Follow = Callable[[dict[str, Any]], Awaitable[Any]]
"""From an order to its outcome."""

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web-worker"
PROVER = ROOT / "libs/shardy_common/proofs/prover.wasm"
DEVKEYS = ROOT / "proofs-rs/target/release/shardy-devkeys"
CHROMIUM = os.environ.get("SHARDY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
THREADED = {
    "node": os.environ.get("SHARDY_NODE") or shutil.which("node") or "",
    "bun": os.environ.get("SHARDY_BUN") or shutil.which("bun") or "",
}


class Missing(Exception):
    """What has to be installed or built first, in words."""


def circuits_module() -> Any:
    """circuits/build.py; other folders have a build.py too."""
    name = "circuits_build"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "circuits/build.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def keyed(shape: tuple[int, int, int]) -> Path:
    """The folder of a circuit with a development key; what is there already is kept. Raises Missing."""
    build = circuits_module()
    cargo = shutil.which("cargo")
    sources = [*(ROOT / "proofs-rs").glob("Cargo.*"), *(ROOT / "proofs-rs/src").rglob("*.rs")]
    stale = not DEVKEYS.exists() or DEVKEYS.stat().st_mtime < max(path.stat().st_mtime for path in sources)
    if stale and cargo is not None:
        command = [cargo, "build", "--release", "--quiet", "-j", "1", "--bin", "shardy-devkeys"]
        subprocess.run(command, cwd=ROOT / "proofs-rs", check=True)
    if not DEVKEYS.exists():
        raise Missing("Rust is needed to make keys")
    try:
        build.install()
        folder: Path = build.compile_one(shape, build.sources_digest())
        with build.alone(f"{folder.name}.keys"):
            build.make_keys(folder, str(DEVKEYS))
    except build.Unbuildable as problem:
        raise Missing(str(problem)) from problem
    return folder


def build_driver(mode: str, out: Path) -> Path:
    """mode: threads or page. Raises Missing without the packages of web-worker."""
    vite = WEB / "node_modules/.bin/vite"
    if not vite.exists():
        raise Missing("npm ci in web-worker/")
    command = [str(vite), "build", "--config", "tests/prove/vite.config.ts", "--mode", mode, "--logLevel", "error"]
    done = subprocess.run(
        [*command, "--outDir", str(out), "--emptyOutDir"], cwd=WEB, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def product(shape: tuple[int, int, int], seed: int, size: tuple[int, int, int] | None = None) -> dict[str, Any]:
    """A random product of the circuit's size, or of `size` (rows, k, cols), as the driver and `signals` take it."""
    circuit, (rows, k, cols) = Circuit(*shape), size or shape
    random = np.random.default_rng(seed)
    left, right = random.integers(-128, 128, (rows, k), np.int8), random.integers(-128, 128, (cols, k), np.int8)
    c = (left.astype(np.int32) @ right.astype(np.int32).T).astype("<i4").tobytes()
    a, b = left.tobytes(), right.tobytes()
    digests = {name: blake3(data).digest() for name, data in (("a", a), ("b", b), ("c", c))}
    context = Context(
        task=f"t-{seed}",
        worker=bytes(range(32)),
        nonce=b"nonce",
        circuit=circuit.name,
        vk_version="dev",
        vk_hash=blake3(b"vk").digest(),
        rows=rows,
        k=k,
        cols=cols,
        seed=b"",
        **digests,
    )
    return {"circuit": circuit, "context": context, "a": a, "b": b, "c": c}


def order(what: str, made: dict[str, Any], instances: int, **more: Any) -> dict[str, Any]:
    """`made` as `product` gives it; more: what some orders want beside."""
    named = {"vk_version": "vkVersion", "vk_hash": "vkHash"}
    context = {
        named.get(name, name): value.hex() if isinstance(value, bytes) else value
        for name, value in asdict(made["context"]).items()
    }
    case = {"circuit": made["circuit"].name, "context": context} | {name: made[name].hex() for name in "abc"}
    return {"what": what, "instances": instances, "case": case, **more}


class Handler(SimpleHTTPRequestHandler):
    """folders: by the first part of the path; what is not named is in the folder of ''."""

    protocol_version = "HTTP/1.1"
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".wasm": "application/wasm"}

    def __init__(self, folders: dict[str, Path], headers: dict[str, str], *args: Any) -> None:
        self.folders, self.more = folders, headers
        super().__init__(*args, directory=str(folders[""]))

    def translate_path(self, path: str) -> str:
        first, _, rest = path.lstrip("/").partition("/")
        self.directory = str(self.folders.get(first, self.folders[""]))
        return super().translate_path(f"/{rest}" if first in self.folders else path)

    def end_headers(self) -> None:
        for name, value in self.more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Site:
    """Folders on a loopback port: `with Site({"": page, "v2-8x8x8": folder}, headers) as site: site.url`."""

    def __init__(self, folders: dict[str, Path], headers: dict[str, str]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, folders, headers))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def run_threads(runtime: str, driver: Path, circuit: Path, wanted: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """The outcome under Node or Bun, with `maxRssKib` of the process beside it. Raises Missing without the runtime."""
    if not THREADED[runtime]:
        raise Missing(f"no {runtime} on this machine (set SHARDY_{runtime.upper()})")
    (scratch / "order.json").write_text(json.dumps(wanted))
    files = [PROVER, circuit / f"{circuit.name}.zkey", circuit / f"{circuit.name}.r1cs", scratch / "order.json"]
    command = [THREADED[runtime], str(driver / "driver.mjs"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
