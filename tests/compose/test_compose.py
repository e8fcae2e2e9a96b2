"""docker-compose.yml on a real engine: what deploy/README.md and docs/operate.md show, in the order of a mesh's life.

The tests need each other: one mesh is built, started, used, scaled, broken, upgraded, backed up, restored, removed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from composekit import Composed, no_engine, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "connected"))
from meshkit import float32, int8, prepared, product, same

from shardy_client import Mesh, PreExec
from shardy_common.engine import reference
from shardy_common.stack import SERVICES

WHY_NOT = no_engine()
pytestmark = [
    pytest.mark.compose,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no Docker engine answers: {WHY_NOT}"),
]
SCALED = {"gateway": 2, "matchmaker": 2, "quorum": 2}
SCALE = " ".join(f"--scale {service}={count}" for service, count in SCALED.items())
PRE = PreExec(-1.0, 1.0, scale="row")
ARCHIVE = "docker compose run --rm care shardy log archive --older-than 30d"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    composed = Composed(tmp_path_factory.mktemp("compose"))
    try:
        yield composed
    finally:
        composed.sh("docker compose --profile worker down -v --remove-orphans", check=False)
        composed.sh(f"docker image rm shardy:{composed.tag}", check=False)
        print("\n" + "\n".join(composed.times))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(10)


def healthy(mesh: Composed, **counts: int) -> None:
    """Every service runs in the number expected, and each container is healthy."""
    wanted = {**dict.fromkeys((*SERVICES, "nats"), 1), **counts}
    shown = [c for c in mesh.shown() if c["Service"] not in ("owner", "streams")]
    assert {name: sum(c["Service"] == name for c in shown) for name in {c["Service"] for c in shown}} == wanted
    assert all(c["State"] == "running" for c in shown)
    assert all(c["Health"] == "healthy" for c in shown if c["Service"] != "worker"), shown


def joined(mesh: Composed, count: int) -> list[dict[str, Any]]:
    """The workers that are present and have a tier, once there are so many."""
    headers, url = {"Authorization": f"Bearer {mesh.key()}"}, mesh.urls()[0]

    def look() -> list[dict[str, Any]]:
        listed = httpx.get(url + "/v1/workers", headers=headers, timeout=20).json()["workers"]
        found = [worker for worker in listed if worker["present"] and worker["tier"]]
        return found if len(found) >= count else []

    return until(look, f"{count} workers have joined")


def main_job(url: str, key: str, rng: np.random.Generator) -> None:
    """The demonstration's job, small: a float32 product, clamped, quantised, and checked by a quorum."""
    a, b = float32(rng, 36, 64), float32(rng, 300, 64)
    with Mesh(url, key) as client:
        parts = client.matmul(a, b, b_layout="nk", pre=PRE, policy="quorum", parts=True, task_rows=9, timeout_s=120)
    (qa, sa), (qb, sb) = prepared(a, PRE), prepared(b, PRE)
    wanted = qa.astype(np.int64) @ qb.astype(np.int64).T  # NumPy's, of the oracle's integers
    same(parts.c, wanted.astype(np.int32))
    same(parts.a_scale, sa)
    same(parts.b_scale, sb)
    same(parts.d, reference.dequantise(parts.c, sa, sb))


def test_a_mesh_comes_up_healthy(mesh: Composed) -> None:
    mesh.sh("deploy/make-secrets.sh")
    mesh.sh("docker compose up --build --wait", timeout_s=500)
    healthy(mesh)
    keys = (mesh.root / "deploy/secrets/api_keys").read_text()
    assert [line.split()[1] for line in keys.splitlines()] == ["submit", "operate"]


def test_containers_are_confined(mesh: Composed) -> None:
    for service in (*SERVICES, "nats"):
        (container,) = mesh.containers(service)
        found = mesh.inspect(container)
        host, config = found["HostConfig"], found["Config"]
        assert config["User"] == "10001:10001" and host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"] and host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["Memory"] >= 512 << 20 and host["NanoCpus"] >= 10**9 and host["PidsLimit"] >= 64, service
        assert bool(host["PortBindings"]) == (service == "gateway"), "nothing else is published"
    refused = mesh.sh("docker compose exec -T gateway sh -c 'id -u; touch /opt/x /data/x 2>&1'", check=False)
    assert refused.startswith("10001") and refused.count("Read-only file system") == 2
    mesh.sh("docker compose exec -T gateway sh -c 'grep -q PRIVATE $SHARDY_MESH_KEY_FILE'")
    environment = mesh.inspect(mesh.containers("gateway")[0])["Config"]["Env"]
    assert not any(mesh.key("nkeys/gateway.seed") in line for line in environment), "secrets come from files"
    for service in SERVICES:  # each has its own key, and no other's
        found = mesh.sh(f"docker compose exec -T {service} sh -c 'ls /run/secrets; cat /run/secrets/nkey'").split()
        assert found[-1] == mesh.key(f"nkeys/{service}.seed"), service
        assert set(found[:-1]) == {"nats_ca", "nkey", *(("api_keys", "mesh_key") if service == "gateway" else ())}


def test_the_main_job_at_small_size_is_right_to_the_byte(mesh: Composed, rng: np.random.Generator) -> None:
    mesh.sh("docker compose --profile worker up --scale worker=2 --wait")
    joined(mesh, 2)
    networks = [mesh.inspect(c)["NetworkSettings"]["Networks"].values() for c in mesh.containers("worker")]
    assert len({network["IPAddress"] for (network,) in networks}) == 2, "two containers, two addresses"
    (url,) = mesh.urls()
    main_job(url, mesh.key(), rng)
    listed = mesh.sh("export SHARDY_KEY=$(cat deploy/secrets/api_key)\nshardy workers", SHARDY_URL=url)
    assert listed.count("container") >= 2


def test_scaled_out_replicas_share_the_work(mesh: Composed, rng: np.random.Generator) -> None:
    mesh.sh("docker compose up --scale gateway=2 --scale matchmaker=2 --scale quorum=2 --no-recreate --wait")
    mesh.sh(f"docker compose --profile worker up {SCALE} --scale worker=4 --no-recreate --wait")
    healthy(mesh, **SCALED, worker=4)
    joined(mesh, 4)
    urls = mesh.urls()
    assert len(urls) == 2

    def held() -> list[int]:
        return [httpx.get(url + "/healthz", timeout=20).json()["workers"] for url in urls]

    workers = mesh.containers("worker")
    for number in range(40):  # each asks the network's names anew, and gets either gateway
        if all(held()):
            break
        mesh.sh(f"docker restart -t 2 {workers[number % 4]}")
        joined(mesh, 4)
    assert all(held()), held()
    clients = [Mesh(url, mesh.key()) for url in urls]
    jobs = []
    for number in range(16):
        a, b = int8(rng, 12, 32), int8(rng, 32, 6)
        policy = ("quorum", "audit")[number // 2 % 2]
        jobs.append((clients[number % 2].submit_matmul(a, b, policy=policy, task_rows=2), product(a, b)))
    for job, wanted in jobs:
        job.wait(timeout_s=120)
        same(job.result(), wanted)
    for client in clients:
        client.close()
    mesh.sh("docker compose exec -T matchmaker python /opt/shardy/health.py matchmaker status")
    for service in ("matchmaker", "quorum"):
        found = mesh.statuses(service)
        assert sorted(s["instance"] for s in found) == ["0", "1"] and len({s["host"] for s in found}) == 2
        assert all(s["replicas"] == ["0", "1"] and s["appended"] > 0 for s in found), found
    shown = mesh.sh("docker compose port --index 2 gateway 8765")
    assert shown.strip().removeprefix("127.0.0.1:") in {url.rpartition(":")[2] for url in urls}


def test_one_of_each_is_killed_during_a_job(mesh: Composed, rng: np.random.Generator) -> None:
    urls = mesh.urls()
    doomed = [c for c in mesh.containers("gateway") if port_of(mesh, c) == urls[1].rpartition(":")[2]]
    doomed += [mesh.containers(service)[0] for service in ("matchmaker", "quorum")]
    a, b = int8(rng, 8_000, 512), int8(rng, 512, 32)  # so many tasks that they outlast the command that kills
    with Mesh(urls[0], mesh.key()) as client:
        job = client.submit_matmul(a, b, task_rows=1)
        until(lambda: job.status()["progress"]["tasks_verified"] >= 20, "the job runs")
        mesh.sh(f"docker kill {' '.join(doomed)}")
        assert job.status()["state"] == "running", "the job was over before anything was killed"
        job.wait(timeout_s=150)
        same(job.result(), product(a, b))
    mesh.sh(f"docker compose --profile worker up {SCALE} --scale worker=4 --no-recreate --wait")
    healthy(mesh, **SCALED, worker=4)
    for service in ("matchmaker", "quorum", "gateway"):
        found = until(lambda service=service: [mesh.statuses(service)], f"the {service} answers")[0]
        assert sorted(s["instance"] for s in found) == ["0", "1"], "who came back took the free slot"


def port_of(mesh: Composed, container: str) -> str:
    return mesh.inspect(container)["NetworkSettings"]["Ports"]["8765/tcp"][0]["HostPort"]


def test_a_container_whose_process_ends_is_started_again(mesh: Composed) -> None:
    (container,) = mesh.containers("dlq")
    assert "healthy" in mesh.sh("docker compose ps")
    assert " gateway INFO " in mesh.sh("docker compose logs --tail 20 gateway")
    mesh.sh("docker compose exec -T dlq sh -c 'kill -TERM 1'")
    until(lambda: mesh.inspect(container)["RestartCount"] >= 1, "the engine starts it again")
    until(lambda: mesh.inspect(container)["State"]["Health"]["Status"] == "healthy", "it is healthy")


def test_replaced_one_by_one_while_a_job_runs(mesh: Composed, rng: np.random.Generator) -> None:
    services = ("quorum", "gateway")
    before = {service: set(mesh.containers(service)) for service in services}
    a, b = int8(rng, 8_000, 512), int8(rng, 512, 32)
    urls = mesh.urls()
    with Mesh(urls[1], mesh.key()) as client:
        mesh.sh("docker compose build", timeout_s=500)
        job_id = client.submit_matmul(a, b, task_rows=1).id
    old_key = mesh.key("nkeys/quorum.seed")
    mesh.sh("rm deploy/secrets/nkeys/quorum.seed")
    mesh.sh("deploy/make-secrets.sh")
    mesh.sh("docker compose kill --signal HUP nats")
    mesh.sh("deploy/replace.sh quorum")
    assert mesh.key("nkeys/quorum.seed") != old_key
    mesh.sh("deploy/replace.sh gateway")
    for service, old in before.items():
        assert len(mesh.containers(service)) == 2 and not old & set(mesh.containers(service))
    with Mesh(mesh.urls()[0], mesh.key()) as client:
        job = client.job(job_id)
        job.wait(timeout_s=150)
        same(job.result(), product(a, b))


def test_scaled_down_workers_join_the_gateway_that_stays(mesh: Composed, rng: np.random.Generator) -> None:
    mesh.sh("docker compose up --scale gateway=1 --scale matchmaker=1 --scale quorum=1 --no-recreate --wait")
    healthy(mesh, worker=4)
    joined(mesh, 4)
    (url,) = mesh.urls()
    assert httpx.get(url + "/healthz", timeout=20).json()["workers"] == 4
    main_job(url, mesh.key(), rng)


def test_a_backup_brings_everything_back(mesh: Composed, rng: np.random.Generator, tmp_path: Path) -> None:
    a, b = int8(rng, 40, 64), int8(rng, 64, 9)
    with Mesh(mesh.urls()[0], mesh.key()) as client:
        job = client.submit_matmul(a, b, task_rows=4)
        job.wait(timeout_s=120)
        before = job.status()
    # all jobs have ended, and this one's events go too: what is restored below is folded from the archive
    report = json.loads(mesh.sh(f"{ARCHIVE.replace('30d', '0s')} --keep-events 0 --json"))
    assert report["archived"] > 100 and report["purged"] > 0 and not report["waiting"], report
    assert "nothing to archive" in mesh.sh(ARCHIVE)
    mesh.sh("deploy/backup.sh backup")
    key = mesh.key()
    refused = mesh.sh("deploy/restore.sh backup 2>&1", check=False)
    assert "hold a mesh already" in refused, refused
    mesh.sh("docker compose --profile worker down -v")
    mesh.sh("rm -r deploy/secrets")
    assert mesh.sh("docker volume ls -q --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME") == ""
    mesh.sh("deploy/restore.sh backup")
    mesh.sh("docker compose up --wait")
    assert mesh.key() == key
    (url,) = mesh.urls()
    with Mesh(url, key) as client:
        again = client.job(job.id)
        assert again.status() == before
        same(again.result(), product(a, b))
    mesh.sh("docker compose --profile worker up --scale worker=2 --no-recreate --wait")
    joined(mesh, 2)
    main_job(url, key, rng)


def test_rebuilt_in_place(mesh: Composed) -> None:
    lines = mesh.sh("docker compose exec -T quorum python /opt/shardy/health.py quorum rebuild")
    assert '"checksum"' in lines and '"instance": "0"' in lines


def test_nothing_is_left_behind(mesh: Composed) -> None:
    mesh.sh("docker compose --profile worker down -v")
    for what in ("ps -aq", "volume ls -q", "network ls -q"):
        assert mesh.sh(f"docker {what} --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME") == "", what
