"""The log on three nodes, with deploy/compose.cluster.yml on a real engine: a leader is killed, a node comes back, and
a new version takes the place of every service and every node, while jobs run all the time.

The tests need each other: one mesh is brought up, and goes through it all.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from composekit import Composed, no_engine, until

from shardy_common.stack import SERVICES

WHY_NOT = no_engine()
pytestmark = [
    pytest.mark.compose,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no Docker engine answers: {WHY_NOT}"),
]
HERE = Path(__file__).parent
NODES = ("nats", "nats-1", "nats-2")
SCALED = {"gateway": 2, "quorum": 2}
SCALE = " ".join(f"--scale {service}={count}" for service, count in SCALED.items())
SERIAL = """
import asyncio
from shardy_common.config import Settings
from shardy_common.log.client import connect
async def main():
    settings = Settings()
    for url in settings.nats_url.split(","):
        client = await connect(url, name="serial", role="dlq", **settings.access)
        print(client._transport._io_writer.get_extra_info("peercert")["serialNumber"])
        await client.close()
asyncio.run(main())
"""
NATS_IMAGE = "nats:2.12-alpine"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    composed = Composed(tmp_path_factory.mktemp("cluster"))
    shown = "export COMPOSE_FILE=docker-compose.yml:deploy/compose.cluster.yml".partition("=")[2]
    files = composed.env.get("COMPOSE_FILE", "").split(":")[1:]  # what this machine needs beside
    composed.env["COMPOSE_FILE"] = ":".join([shown, *files])
    try:
        yield composed
    finally:
        print(composed.sh("docker compose logs --tail 15 2>&1", check=False)[-6000:])
        composed.sh("docker compose --profile worker down -v --remove-orphans", check=False)
        composed.sh(f"docker image rm shardy:{composed.tag} shardy:{composed.tag}-next", check=False)
        composed.sh(f"docker image rm nats:{composed.tag}-next", check=False)
        print("\n" + "\n".join(composed.times))


class Load:
    """load.py in a container, from its start to `ended`, which gives what each job came to."""

    def __init__(self, mesh: Composed) -> None:
        script = (HERE / "load.py").read_text()
        command = ["docker", "compose", "run", "--rm", "-T", "--no-deps", "-e", f"LOAD_KEY={mesh.key()}", "worker"]
        self.lines = mesh.root / "load.out"
        self._out = open(self.lines, "w+")  # noqa: SIM115 - until ended()
        self.process = subprocess.Popen(
            [*command, "python", "-u", "-c", script],
            cwd=mesh.root,
            env=mesh.env,
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=subprocess.STDOUT,
        )

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.read_text().splitlines() if line.startswith("{")]

    def done(self) -> int:
        return sum("right" in line for line in self.said())

    def ended(self) -> list[str]:
        """All jobs, right to the byte, each that was acknowledged."""
        assert self.process.poll() is None, self.lines.read_text()[-2000:]
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.close()
        assert self.process.wait(300) == 0, self.lines.read_text()[-2000:]
        self._out.close()
        said = self.said()
        assert [line for line in said if line.get("right") is False] == [], "every job ends with the right bytes"
        submitted = {line["submitted"] for line in said if "submitted" in line}
        assert submitted == {line["job"] for line in said if "job" in line}
        return sorted(submitted)


def log_of(mesh: Composed) -> dict[str, Any]:
    """What readlog.py found."""
    script = mesh.root / "readlog.py"
    script.write_text((HERE / "readlog.py").read_text())
    out = mesh.sh('docker compose run --rm --no-deps -T streams python -c "$(cat readlog.py)"')
    return dict(json.loads(out.splitlines()[-1]))


def exact(mesh: Composed, jobs: list[str], rows: int = 400) -> dict[str, Any]:
    """The log says of each job once that it came and that it is complete, and has one verdict for each of its tasks."""
    found = log_of(mesh)
    assert found["verdicts_max"] == 1 and found["undecodable"] == 0
    for job in jobs:
        assert found["jobs"][job] == {"job.submitted": 1, "job.completed": 1}, (job, found["jobs"].get(job))
        assert found["verified"][job] == rows, job
    return found


def healthy(mesh: Composed) -> None:
    shown = [c for c in mesh.shown() if c["Service"] not in ("owner", "streams")]
    wanted = {**dict.fromkeys((*SERVICES, *NODES), 1), **SCALED, "worker": 2}
    counted = {name: sum(c["Service"] == name and "run" not in c["Name"] for c in shown) for name in wanted}
    assert counted == wanted
    assert all(c["Health"] == "healthy" for c in shown if c["Service"] != "worker"), shown


def test_three_nodes_and_scaled_services_come_up(mesh: Composed) -> None:
    mesh.sh("deploy/make-secrets.sh")
    mesh.sh("docker compose build", timeout_s=500)
    mesh.sh(f"docker compose --profile worker up {SCALE} --scale worker=2 --wait", timeout_s=300)
    healthy(mesh)
    headers, url = {"Authorization": f"Bearer {mesh.key()}"}, mesh.urls()[0]

    def joined() -> bool:
        listed = httpx.get(url + "/v1/workers", headers=headers, timeout=20).json()["workers"]
        return sum(bool(worker["present"] and worker["tier"]) for worker in listed) >= 2

    until(joined, "2 workers have joined")
    found = log_of(mesh)
    assert found["replicas"] == 3 and found["leader"] in NODES and len(found["current"]) == 2, found


def test_the_leader_of_the_log_is_killed_under_load(mesh: Composed) -> None:
    leader = log_of(mesh)["leader"]
    load = Load(mesh)
    until(lambda: load.done() >= 1, "jobs run")
    before = load.done()
    mesh.sh(f"docker kill --signal KILL {mesh.containers(leader)[0]}")
    until(lambda: load.done() >= before + 2, "jobs go on without it", 240)
    found = exact(mesh, [])
    assert found["leader"] in NODES and found["leader"] != leader and len(found["current"]) == 1
    mesh.sh(f"docker compose up --no-recreate --no-deps --wait {leader}")
    until(lambda: len(log_of(mesh)["current"]) == 2, "it has caught up", 150)
    exact(mesh, load.ended())
    healthy(mesh)


def test_every_service_and_every_node_is_replaced_while_jobs_run(mesh: Composed) -> None:
    services = ("gateway", "matchmaker", "quorum", "prover-verifier", "gossip-bridge", "dlq")
    for name, base in (("shardy", f"shardy:{mesh.tag}"), ("nats", NATS_IMAGE)):
        dockerfile = f"FROM {base}\\nENV SHARDY_RELEASE=next\\n"
        mesh.sh(f"printf '{dockerfile}' | docker build --quiet --pull=false -t {name}:{mesh.tag}-next -")
    before = {name: set(mesh.containers(name)) for name in (*services, *NODES)}
    load = Load(mesh)
    until(lambda: load.done() >= 1, "jobs run")
    mesh.env |= {"SHARDY_TAG": f"{mesh.tag}-next", "SHARDY_NATS_IMAGE": f"nats:{mesh.tag}-next"}
    mesh.sh("deploy/replace.sh gateway matchmaker quorum prover-verifier gossip-bridge dlq", timeout_s=600)
    mesh.sh("deploy/replace.sh nats nats-1 nats-2", timeout_s=400)
    for name, old in before.items():
        containers = mesh.containers(name)
        assert len(containers) == len(old) and not old & set(containers), name
        for container in containers:
            assert "SHARDY_RELEASE=next" in mesh.inspect(container)["Config"]["Env"], name
    renewed(mesh)
    jobs = load.ended()
    assert len(jobs) >= 3
    exact(mesh, jobs)
    healthy(mesh)


def renewed(mesh: Composed) -> None:
    """The servers' certificate, while they run."""
    (mesh.root / "serial.py").write_text(SERIAL)

    def serials() -> set[str]:
        """Of the certificates that the nodes show, as who connects anew sees them."""
        return set(mesh.sh('docker compose exec -T dlq python -c "$(cat serial.py)"').split())

    (old,) = serials()
    mesh.sh("deploy/make-secrets.sh --renew")
    mesh.sh("docker compose kill --signal HUP nats nats-1 nats-2")
    until(lambda: len(serials()) == 1 and old not in serials(), "all nodes show the new one")


def test_nothing_goes_in_the_clear_or_without_a_key(mesh: Composed) -> None:
    """From inside the log's network: no key, another authority's certificate, another service's events."""
    script = """
import asyncio, sys
from pathlib import Path
from shardy_common.config import Settings
from shardy_common.log.client import connect
async def main():
    settings = Settings()
    ca, seed = settings.nats_ca_file, settings.nats_seed_file
    for access in ({"ca_file": ca}, {"ca_file": ca, "user": "shardy", "password": "x"}, {"seed_file": seed}):
        try:
            await asyncio.wait_for(connect(settings.nats_url, name="x", role="dlq", reconnect=False, **access), 10)
            print("let in", access)
        except Exception as error:
            print("refused", type(error).__name__, error)
    client = await connect(settings.nats_url, name="x", role="dlq", seed_file=seed, ca_file=ca)
    await client.publish("task.verified.x", b"{}")
    await client.flush()
    await asyncio.sleep(0.5)
    print("forbidden", client.forbidden)
    await client.close()
asyncio.run(main())
"""
    (mesh.root / "entry.py").write_text(script)
    out = mesh.sh('docker compose exec -T dlq python -c "$(cat entry.py)" 2>/dev/null')
    assert out.count("refused") == 3 and "let in" not in out and "CERTIFICATE" in out.upper(), out
    assert "forbidden {'task.verified'}" in out
