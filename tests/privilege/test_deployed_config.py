"""The configuration of deploy/ with what deploy/make-secrets.sh makes, on real servers of this machine: TLS, routes
between three nodes, keys, a renewed certificate. The containers' own tests are tests/compose."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guardkit import ANSWER_S

from shardy_common import nats_nodes
from shardy_common.log import JetStreamLog
from shardy_common.log.client import connect
from shardy_common.make_streams import make
from shardy_common.permissions import EMITS, OPERATOR

ROOT = Path(__file__).resolve().parents[2]
NODES = ("nats", "nats-1", "nats-2")
pytestmark = [pytest.mark.connected, pytest.mark.skipif(sys.platform == "win32", reason="a shell script")]


class Deployed:
    """Three nodes as compose.cluster.yml starts them, but for paths and ports."""

    def __init__(self, folder: Path) -> None:
        self.deploy = folder / "deploy"
        shutil.copytree(ROOT / "deploy", self.deploy, ignore=shutil.ignore_patterns("secrets"))
        self.secrets = self.deploy / "secrets"
        self.run("make-secrets.sh")
        self.ports = {node: nats_nodes.free_port("127.0.0.1") for node in NODES}
        routes = {node: nats_nodes.free_port("127.0.0.1") for node in NODES}
        mounted = {
            "nats_keys": "nats_keys.conf",
            **{"nats_cert_key": "nats_cert.key", "nats_cert": "nats_cert.pem", "nats_ca": "nats_ca.pem"},
        }
        self.processes = []
        for node in NODES:
            etc = folder / node
            etc.mkdir()
            for name in ("nats.conf", "nats-cluster.conf", "nats-users.conf"):
                text = (self.deploy / name).read_text()
                for secret, file in mounted.items():
                    text = re.sub(rf'"[./]*/run/secrets/{secret}"', f'"{self.secrets / file}"', text)
                text = text.replace("0.0.0.0:4222", f"127.0.0.1:{self.ports[node]}").replace("/data", str(etc / "data"))
                text = text.replace("0.0.0.0:6222", f"127.0.0.1:{routes[node]}")
                text = re.sub(r"(?m)^http: .*$", "", text)
                for other in reversed(NODES):
                    text = text.replace(f"tls://{other}:6222", f"tls://localhost:{routes[other]}")
                # as an include the servers take it by a path from the file that names it
                (etc / name).write_text(
                    text.replace(f'include "{self.secrets}', f'include "{os.path.relpath(self.secrets, etc)}')
                )
            environment = {**os.environ, "SHARDY_NATS_NAME": node}
            command = [nats_nodes.program(), "-c", str(etc / "nats-cluster.conf"), "-l", str(etc / "log")]
            self.processes.append(subprocess.Popen(command, env=environment))

    def run(self, *command: str) -> None:
        subprocess.run([str(self.deploy / command[0]), *command[1:]], check=True, capture_output=True, timeout=60)
        for seed in (self.secrets / "nkeys").glob("*.seed"):
            seed.chmod(0o600)  # here they are ours; in a container they are another user's

    @property
    def url(self) -> str:
        return ",".join(f"tls://localhost:{port}" for port in self.ports.values())

    def access(self, role: str) -> dict[str, Any]:
        return {"seed_file": self.secrets / f"nkeys/{role}.seed", "ca_file": self.secrets / "nats_ca.pem"}

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    found = Deployed(tmp_path_factory.mktemp("deployed"))
    try:
        asyncio.run(asyncio.wait_for(make(found.url, 3, **found.access(OPERATOR)), 90))
        yield found
    finally:
        found.stop()


@pytest.mark.parametrize("role", EMITS)
async def test_each_service_is_let_in_by_its_key_over_tls(deployed: Deployed, role: str) -> None:
    opening = JetStreamLog.open(deployed.url, name="t", role=role, **deployed.access(role))
    log = await asyncio.wait_for(opening, ANSWER_S)
    assert await log.last_seq() == 0 and log.client.forbidden == set()
    await log.close()


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Secrets of another mesh."""
    shutil.copy(ROOT / "deploy/make-secrets.sh", tmp_path)
    subprocess.run([str(tmp_path / "make-secrets.sh")], check=True, capture_output=True, timeout=60)
    (tmp_path / "secrets/nkeys/dlq.seed").chmod(0o600)
    return tmp_path / "secrets"


async def test_who_is_not_let_in(deployed: Deployed, foreign: Path) -> None:
    access = deployed.access("dlq")
    plain = deployed.url.replace("tls:", "nats:")
    for url, wrong in (
        (deployed.url, {"ca_file": foreign / "nats_ca.pem"}),
        (deployed.url, {"ca_file": None}),
        (deployed.url, {"seed_file": foreign / "nkeys/dlq.seed"}),
        (deployed.url, {"seed_file": None}),
        (plain, {"ca_file": None}),
    ):
        with pytest.raises(Exception) as found:
            await asyncio.wait_for(connect(url, name="t", role="dlq", reconnect=False, **{**access, **wrong}), ANSWER_S)
        said = str(found.value).lower()
        assert "certificate" in said or "authorization" in said, (wrong, said)
    client = await connect(plain, name="t", role="dlq", reconnect=False, **access)
    assert client._transport._io_writer.get_extra_info("cipher"), "a server that speaks TLS is spoken to in it"
    await client.close()


async def serials(deployed: Deployed) -> set[str]:
    """Of the certificates that the nodes show."""
    found = set()
    for port in deployed.ports.values():
        client = await connect(f"tls://localhost:{port}", name="t", role="dlq", **deployed.access("dlq"))
        peer = client._transport._io_writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        found.add(ssl.DER_cert_to_PEM_cert(peer))
        await client.close()
    return found


async def test_a_certificate_is_renewed_and_connections_stay(deployed: Deployed) -> None:
    staying = await connect(deployed.url, name="t", role="dlq", **deployed.access("dlq"))
    breaks: list[int] = []
    staying.on_break.append(lambda: breaks.append(1))
    (old,) = await serials(deployed)
    deployed.run("make-secrets.sh", "--renew")
    for process in deployed.processes:
        process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(60):
        while old in (found := await serials(deployed)) or len(found) != 1:
            await asyncio.sleep(0.1)
    assert breaks == [] and staying.is_connected
    await staying.close()


async def test_a_replaced_key_ends_the_old_one(deployed: Deployed) -> None:
    """The server lets go of who had the old key; it is not let in again, and says so; the new key is."""
    ended: list[int] = []
    old = await connect(deployed.url, name="t", role="dlq", **deployed.access("dlq"))
    old.on_end.append(lambda: ended.append(1))
    (deployed.secrets / "nkeys/dlq.seed").unlink()
    deployed.run("make-secrets.sh")
    for process in deployed.processes:
        process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(60):
        while old.is_connected:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        new = await connect(deployed.url, name="t", role="dlq", **deployed.access("dlq"))
    assert new.is_connected and not old.is_connected
    await new.close()
    await old.close()
    assert ended
