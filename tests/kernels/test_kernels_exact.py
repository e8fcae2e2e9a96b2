"""Every committed WGSL variant equals NumPy to the byte, on two drivers with two shader compilers between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import blake3
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "libs/shardy_common/kernels"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
DRIVERS = {
    "lavapipe": Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"),
    "swiftshader": Path("/usr/lib/chromium/vk_swiftshader_icd.json"),
}
# Around every boundary: one element, tile edges of each variant plus and minus one, K off the 4 and 16 byte steps.
SHAPES = [
    (1, 1, 1),
    (1, 65, 3),
    (3, 5, 7),
    (31, 33, 15),
    (32, 32, 16),
    (33, 31, 17),
    (64, 64, 64),
    (127, 63, 65),
    (128, 64, 60),
    (129, 65, 130),
    (257, 131, 33),
    (2, 3, 4097),
]
VARIANT_NAMES = [v["name"] for v in MANIFEST["variants"]]


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(20)
    made = {}
    for m, n, k in SHAPES:
        a, b = (rng.integers(-128, 128, (rows, k), dtype=np.int8) for rows in (m, n))
        made[f"random {m}x{n}x{k}"] = a, b
    extreme = np.full((65, 65_535), -128, np.int8)
    made["all -128, k 65535"] = extreme[:33], extreme
    flip = np.where(np.arange(48 * 1023).reshape(48, 1023) % 2, 127, -128).astype(np.int8)
    made["-128 and 127"] = flip, -1 - flip
    return made


@pytest.fixture(scope="module", params=list(DRIVERS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    driver = DRIVERS[request.param]
    if not driver.exists():
        pytest.skip(f"no {request.param} driver at {driver}")
    folder = tmp_path_factory.mktemp("kernels")
    np.savez(
        folder / "in.npz", **{f"{name}/{x}": v for name, ab in cases().items() for x, v in zip("ab", ab, strict=True)}
    )
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("adapters.py")), FOLDER, folder / "in.npz", folder / "out.npz"],
        env={**os.environ, "VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 3:
        pytest.skip(f"{request.param} offers no adapter: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    print(request.param, done.stdout.strip())
    with np.load(folder / "out.npz") as data:
        return {name: data[name] for name in data.files}


@pytest.mark.gpu
@pytest.mark.parametrize("case", cases())
def test_every_variant_equals_numpy(run: dict[str, np.ndarray], case: str) -> None:
    a, b = cases()[case]
    # 2^14 · 65,535 is under 2^53: the float64 product is exact.
    want = (a.astype(np.float64) @ b.astype(np.float64).T).astype(np.int64)
    for name in VARIANT_NAMES:
        got = run[f"{case}/{name}"]
        assert np.array_equal(got, want), f"{name} differs at {np.argwhere(got != want)[:3].tolist()}"


@pytest.mark.gpu
@pytest.mark.parametrize("case", cases())
def test_packing_pads_with_zeros(run: dict[str, np.ndarray], case: str) -> None:
    a, _ = cases()[case]
    want = np.pad(a, ((0, 0), (0, -a.shape[1] % 16)))
    assert np.array_equal(run[f"{case}/packed"], want)


def test_manifest_names_every_file_by_its_digest() -> None:
    listed = [*MANIFEST["variants"], MANIFEST["pack"]]
    assert {e["file"] for e in listed} == {p.name for p in FOLDER.glob("*.wgsl")}
    for entry in listed:
        assert blake3.blake3((FOLDER / entry["file"]).read_bytes()).hexdigest() == entry["blake3"]
