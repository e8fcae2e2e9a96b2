"""Proving keys in a page's Cache Storage, and what the gateway lets the page's workers do."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from bench.tab_prover import Site

# The first of them waits for circuit and key, and for the key maker where it was not built.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

GET = "([files, most]) => window.prover.keys(files, most)"


class Offered:
    """A file on the site; `asked`: how the page is told of it."""

    def __init__(self, site: Site, folder: Path, name: str, size: int) -> None:
        self.path = folder / name
        self.content = np.random.default_rng(size).bytes(size)
        packed = gzip.compress(self.content, mtime=0)
        self.path.write_bytes(packed)
        self.bytes = len(packed)
        self.digest = blake3(packed).hexdigest()
        self.asked = {"url": f"{site.url}/files/{name}", "digest": self.digest, "bytes": self.bytes}


async def test_keys_are_kept_in_the_browser_and_the_oldest_go(page: Any, site: Site, files: Path) -> None:
    one, two, three = (Offered(site, files, f"key{at}", 100_000 + at) for at in range(3))
    most = two.bytes + three.bytes + 100
    found = await page.evaluate(GET, [[one.asked, two.asked], most])
    assert found["sizes"] == [100_000, 100_001]
    assert [entry["digest"] for entry in found["kept"]] == [one.digest, two.digest]
    assert [entry["bytes"] for entry in found["kept"]] == [one.bytes, two.bytes]

    # What is kept is not asked for again: the site has it no longer.
    for offered in (one, two):
        offered.path.rename(offered.path.with_suffix(".away"))
    await page.reload()
    await page.wait_for_function("() => window.prover !== undefined")
    found = await page.evaluate(GET, [[two.asked, one.asked, three.asked], most])
    assert found["sizes"] == [100_001, 100_000, 100_002]
    assert [entry["digest"] for entry in found["kept"]] == [two.digest, three.digest]

    # Damaged in the cache: thrown away, and fetched again.
    two.path.with_suffix(".away").rename(two.path)
    await page.evaluate("(digest) => window.prover.damage(digest)", two.digest)
    found = await page.evaluate(GET, [[two.asked], most])
    assert found["sizes"] == [100_001]
    assert [entry["digest"] for entry in found["kept"]] == [three.digest, two.digest]

    # Damaged on the way: not taken, and what was kept stays.
    three.path.write_bytes(three.path.read_bytes()[:-1] + b"\x01")
    await page.evaluate("(digest) => window.prover.damage(digest)", three.digest)
    found = await page.evaluate(GET, [[three.asked], most])
    assert found["sizes"] == ["Error: the key that was sent is not the one asked for"]
    assert [entry["digest"] for entry in found["kept"]] == [two.digest]


async def test_the_page_may_do_no_more_than_before(page: Any, site: Site) -> None:
    """The driver's page runs under the gateway's own headers; any report of CSP fails the tests of this folder."""
    answer = await page.goto(f"{site.url}/page.html")
    policy = (await answer.all_headers())["content-security-policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert rules["worker-src"] == "'self' blob:"
    assert await page.evaluate("() => crossOriginIsolated")


def test_nothing_under_the_gpl_is_shipped(page_folder: Path) -> None:
    """snarkjs and circom name themselves in all that they build."""
    foreign = (b"snarkjs", b"circom", b"ffjavascript", b"general public license")
    shipped = [path for path in page_folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in shipped} == {".html", ".js", ".wasm"}
    for path in shipped:
        text = path.read_bytes().lower()
        assert not [name for name in foreign if name in text], path
