"""What the browser tests share: where things lie, how Chromium is started, and waiting for a page's status."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "services/gateway/static"
sys.path.append(str(ROOT / "tests/native_worker"))

CHROMIUM = os.environ.get("SHARDY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS = ["--no-sandbox", "--disable-quic", *QUIET]
WEBGPU = "--enable-unsafe-webgpu"

STATUS = "() => window.shardy"
Open = Callable[..., Awaitable[Any]]


async def until(page: Any, condition: str, seconds: float = 60) -> dict[str, Any]:
    """Wait until `condition`, an expression over `s`, is true of the page's status; the status."""
    try:
        await page.wait_for_function(
            f"() => {{ const s = window.shardy; return {condition}; }}", timeout=seconds * 1000
        )
    except Exception as error:
        raise AssertionError(f"{condition} never held: {await page.evaluate(STATUS)}") from error
    status: dict[str, Any] = await page.evaluate(STATUS)
    return status
