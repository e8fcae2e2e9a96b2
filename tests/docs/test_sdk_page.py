"""docs/sdk.md: its code runs as it stands, from top to bottom; against a fake mesh, and against a real one."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

import shardy_client
from shardy_client import AsyncMesh, Mesh, errors

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/sdk.md").read_text(encoding="utf-8")
sys.path[:0] = [str(ROOT / "tests/client"), str(ROOT / "tests/connected")]


def blocks() -> list[str]:
    """The page's code, each block with the lines before it blank, so that a trace names the page's line."""
    found = []
    for match in re.finditer(r"(?ms)^```python\n(.*?)^```", PAGE):
        found.append("\n" * (PAGE[: match.start(1)].count("\n")) + match[1])
    return found


def run_page(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, key: str, operator: str) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SHARDY_URL", url)
    for name in ("SHARDY_KEY", "SHARDY_OPERATOR_KEY"):
        monkeypatch.delenv(name, raising=False)
    Path(".data").mkdir(exist_ok=True)
    Path(".data/api_key").write_text(key + "\n")
    Path(".data/operator_key").write_text(operator + "\n")
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks():
        exec(compile(block, "docs/sdk.md", "exec"), space)
    assert Path("c.npy").exists() and Path("ledger.csv").stat().st_size > 0


def test_the_page_runs_on_a_fake_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_api import KEY, OPERATOR, SCOPES, FakeApi

    api = FakeApi()
    api.start()
    monkeypatch.setitem(SCOPES, "shardy_k1", {"submit"})
    try:
        run_page(tmp_path, monkeypatch, api.url, KEY, OPERATOR)
    finally:
        api.stop()
    assert len(blocks()) >= 8


@pytest.mark.connected
async def test_the_page_runs_on_a_real_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from meshkit import Workers

    from shardy_common.stack import Stack

    async with Stack(tmp_path / "mesh", allow_same_address=True) as stack:
        workers = Workers(stack, tmp_path)
        try:
            await workers.start("ada", "bo", "cy")
            arguments = (tmp_path, monkeypatch, stack.url, stack.api_key, stack.operator_key)
            await asyncio.to_thread(run_page, *arguments)
        finally:
            await workers.stop()


def test_the_errors_and_their_exit_codes_are_the_codes() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)`.*\| (\d) \|$", PAGE)
    assert len(rows) == 5
    for name, code in rows:
        assert getattr(errors, name).exit_code == int(code), name


def test_both_clients_have_the_same_calls_and_docstrings() -> None:
    def calls(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}

    assert calls(AsyncMesh) - {"aclose"} == calls(Mesh) - {"close"}
    for kind in (Mesh, AsyncMesh, shardy_client.Job, shardy_client.AsyncJob):
        for name in calls(kind):
            assert inspect.getdoc(getattr(kind, name)), f"{kind.__name__}.{name}"
            sync, other = getattr(Mesh, name, None), getattr(AsyncMesh, name, None)
            if sync is not None and other is not None and "more" not in str(inspect.signature(sync)):
                assert list(inspect.signature(sync).parameters) == list(inspect.signature(other).parameters), name
