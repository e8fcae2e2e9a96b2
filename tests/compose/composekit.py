"""A copy of what the containers are made from, run by Docker Compose under a project name of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    *("Dockerfile", ".dockerignore", "docker-compose.yml", "pyproject.toml", "README.md", "LICENSE"),
    *("libs", "services", "web-worker", "requirements", "deploy"),
)
LEFT_OUT = shutil.ignore_patterns("node_modules", "__pycache__", "secrets", "*.egg-info")
PATIENCE_S = 90.0


def no_engine() -> str:
    """Why the tests cannot run here; empty when they can."""
    if shutil.which("docker") is None:
        return "no docker on the path"
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return f"no answer to {' '.join(command)}"
        if done.returncode:
            return (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
    return ""


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below the range of outgoing connections."""
    while True:
        first = 20_000 + secrets.randbelow(9_000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class Composed:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "shardy"
        self.root.mkdir()
        for name in NEEDED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.root / name, ignore=LEFT_OUT)
            else:
                shutil.copy(ROOT / name, self.root / name)
        self.tag = f"test-{secrets.token_hex(4)}"
        first = free_ports(4)
        self.env = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": f"shardy{self.tag.replace('-', '')}",
            "SHARDY_TAG": self.tag,
            "SHARDY_PORTS": f"{first}-{first + 3}",
            "SHARDY_CPUS": str(min(os.cpu_count() or 1, 2)),
            "SHARDY_LOG_LEVEL": "INFO",
            "COLUMNS": "200",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.times: list[str] = []

    def sh(self, line: str, *, timeout_s: float = 240, check: bool = True, **more: str) -> str:
        """Run a line as a person would; what it prints."""
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.root,
            env={**self.env, **more},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        self.times.append(f"{time.monotonic() - started:6.1f} s  {line.splitlines()[-1][:100]}")
        assert not check or done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def key(self, name: str = "api_key") -> str:
        return (self.root / "deploy/secrets" / name).read_text().strip()

    def containers(self, service: str) -> list[str]:
        return self.sh(f"docker compose --profile worker ps -q {service}").split()

    def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(self.sh(f"docker inspect {container}"))[0]

    def shown(self) -> list[dict[str, Any]]:
        """`docker compose ps`, a map for each container."""
        lines = self.sh("docker compose --profile worker ps --format json").splitlines()
        return [json.loads(line) for line in lines]

    def urls(self) -> list[str]:
        """Of each gateway, in the order of their slots."""
        found = {}
        for container in self.containers("gateway"):
            port = self.inspect(container)["NetworkSettings"]["Ports"]["8765/tcp"][0]["HostPort"]
            url = f"http://127.0.0.1:{port}"
            found[httpx.get(url + "/healthz", timeout=20).json()["gateway"]] = url
        return [found[name] for name in sorted(found)]

    def statuses(self, service: str) -> list[dict[str, Any]]:
        lines = self.sh(f"docker compose exec -T {service} python /opt/shardy/health.py {service} status")
        return [json.loads(line) for line in lines.splitlines()]


def until(look: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """The first truthy answer of `look`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except httpx.TransportError:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.2)
