"""What `doctor` looks for around a mesh: its gateways, clock and keys, and room for one on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from shardy_client.check import Check
from shardy_client.transport import KEY_FILE, OPERATOR_KEY_FILE, default_key, gateways, operator_key

DISK_BYTES_MIN = 2 << 30
MEMORY_BYTES_MIN = 1 << 30
SKEW_S_MAX = 5.0
PATIENCE_S = 3.0
SKIPPED_NAMED_MAX = 3
LOCAL = ("127.0.0.1", "localhost", "::1")


def disk(folder: Path) -> Check:
    """Room for logs and blobs."""
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    return Check(
        "disk space",
        free >= DISK_BYTES_MIN,
        False,
        f"{free / 2**30:.1f} GiB free",
        "the log and every stored operand are kept: free some room, or choose another disk with --data-dir",
    )


def memory() -> Check:
    """Room for workers and services."""
    free = free_memory()
    if free is None:
        return Check("free memory", True, False, "not known on this system", "")
    return Check(
        "free memory",
        free >= MEMORY_BYTES_MIN,
        False,
        f"{free / 2**30:.1f} GiB",
        "end other programs; a worker takes less with --memory-mib",
    )


def free_memory() -> int | None:
    """Bytes that programs may still take."""
    try:
        for text in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if text.startswith("MemAvailable:"):
                return int(text.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def keys(data_dir: Path = Path(".data")) -> Check:
    """Keys that this folder's commands find, and whether others can read them."""
    found, open_ = [], []
    for name in ("SHARDY_KEY", "SHARDY_OPERATOR_KEY", "SHARDY_MESH_KEY"):
        if os.environ.get(name):
            found.append(name)
    for path in (KEY_FILE, OPERATOR_KEY_FILE, data_dir / "mesh_key.pub"):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        found.append(str(path))
        if mode & 0o077 and path.suffix != ".pub":
            open_.append(str(path))
    if open_:
        return Check("keys", False, False, f"others can read {', '.join(open_)}", f"chmod 600 {' '.join(open_)}")
    remedy = "run commands in the folder of a mesh that was started with shardy up, or set SHARDY_KEY"
    return Check("keys", bool(found), False, ", ".join(found) or "none here", remedy)


def mesh(url: str) -> list[Check]:
    """Each gateway, its clock, and the port that a mesh of this machine would take."""
    checks = []
    answers: list[httpx.Response] = []
    for gateway in gateways(url):
        check, answer = _gateway(gateway)
        checks.append(check)
        if answer is not None:
            answers.append(answer)
    checks += [_clock(answer) for answer in answers[:1]]
    if answers:
        checks += services(str(answers[0].request.url.copy_with(path="")).rstrip("/"))
    checks.append(_port(url, bool(answers)))
    return checks


def _gateway(url: str) -> tuple[Check, httpx.Response | None]:
    try:
        answer = httpx.get(f"{url}/healthz", timeout=PATIENCE_S)
    except (httpx.HTTPError, httpx.InvalidURL):
        return Check("mesh", False, False, f"nothing answers at {url}", "start one here: shardy up"), None
    if answer.status_code != 200:
        remedy = "see what it says: is it a mesh, and ready?"
        return Check("mesh", False, False, f"{url} answers {answer.status_code}", remedy), answer
    return Check("mesh", True, False, f"{url} answers{_version(url)}", ""), answer


def _version(url: str) -> str:
    key = default_key()
    try:
        answer = httpx.get(f"{url}/v1/mesh", timeout=PATIENCE_S, headers={"Authorization": f"Bearer {key}"})
        info: Any = answer.json() if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return ""
    if answer.status_code == 401:
        return ", and knows no such API key"
    return f": {info.get('name')}, version {info.get('version')}" if isinstance(info, dict) else ""


def services(url: str) -> list[Check]:
    """What each service of a mesh says of its fold; nothing where the operator's key is not at hand."""
    try:
        answer = httpx.get(
            f"{url}/v1/services", timeout=PATIENCE_S, headers={"Authorization": f"Bearer {operator_key()}"}
        )
        found: Any = answer.json().get("services") if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError, AttributeError):
        return []
    return [_service(service) for service in found] if isinstance(found, list) else []


def _service(service: dict[str, Any]) -> Check:
    name, replicas = f"service {service.get('name')}", service.get("replicas") or []
    if not replicas:
        return Check(name, False, False, "no replica answers", "start it, or see its log")
    shown, remedy, right = [], "", True
    for replica in replicas:
        words, help_ = _fold(replica)
        shown.append(f"{replica.get('instance')}: {words}" if len(replicas) > 1 else words)
        right, remedy = right and not help_, remedy or help_
    return Check(name, right, False, "; ".join(shown), remedy)


def _fold(replica: dict[str, Any]) -> tuple[str, str]:
    """How far a replica is, and what to do about it, if anything is."""
    build, standing, skipped = replica.get("build"), replica.get("standing"), replica.get("skipped") or []
    snapshot = replica.get("snapshot_checkpoint")
    words = f"has folded all {replica.get('checkpoint')} events"
    if replica.get("lag_events"):
        words = f"{replica['lag_events']} events behind, {(replica.get('lag_ms') or 0) / 1000:.1f} s old"
    if build:
        left_s = build.get("seconds_left")
        words = f"folds the log: {build.get('done')} of {build.get('of')} events, {build.get('per_s')} a second"
        words += f", {left_s:.0f} s left" if left_s is not None else ""
    words += f", snapshot at {snapshot}" if snapshot else ""
    if standing:
        words += f", stands still at event {standing.get('seq')} ({standing.get('error')})"
        return words, "upgrade or repair this service: shardy dlq list --cause handler says what it cannot fold"
    if skipped:
        entries = ", ".join(str(entry.get("entry")) for entry in skipped[:SKIPPED_NAMED_MAX])
        return f"{words}, without {len(skipped)} that it could not fold", f"shardy dlq show {entries}"
    return words, ""


def _clock(answer: httpx.Response) -> Check:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return Check("clock", True, False, "the mesh does not say what time it is", "")
    skew_s = time.time() - theirs
    shown = "as the mesh's, within a second or two" if abs(skew_s) < 2 else f"{abs(skew_s):.0f} s off the mesh's"
    return Check("clock", abs(skew_s) <= SKEW_S_MAX, False, shown, "set the clock (Debian: apt install chrony)")


def _port(url: str, answered: bool) -> Check:
    parts = urlsplit(gateways(url)[0])
    if parts.hostname not in LOCAL:
        return Check("port", True, False, "the mesh is elsewhere: none is needed here", "")
    port = parts.port or 80
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            free = True
        except OSError:
            free = False
    detail = f"{port} is free" if free else f"{port} is the mesh's" if answered else f"{port} is taken"
    remedy = f"another program listens on {port}: stop it, or use shardy up --port N"
    return Check("port", free or answered, False, detail, remedy)
