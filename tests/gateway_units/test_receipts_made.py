"""Receipts out of the gateway's projection: from signed results in the log to what a stranger can check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from made_receipts import MESH, Device
from mesh_events import JOB, Story, lease, matmul, submitted

from shardy_common import ids
from shardy_common.blobs import DirectoryStore
from shardy_common.errors import Refused, Transient
from shardy_common.log import Projection
from shardy_common.receipts import canonical, check, load
from shardy_common.wire import events as ev
from shardy_common.wire import merkle
from shardy_common.wire.job import Tile
from shardy_gateway import receipts
from shardy_gateway.receipts import Receipts
from shardy_gateway.views import TABLES, VERSION, Views

ADA, BO, CY = Device(1), Device(2), Device(3)
SPEC = matmul(8, 4, 3)
TILES = [Tile(0, 2, 0, 2), Tile(2, 6, 0, 2), Tile(0, 8, 2, 2)]
TASKS = [ids.task_id(JOB, tile.col0, tile.row0, 7) for tile in TILES]


class Mesh:
    """A log, the views of it on disk, a blob store, and what makes receipts of them."""

    def __init__(self, folder: Path) -> None:
        self.story, self.views = Story(), Views()
        self.projection = Projection(folder / "g.db", TABLES, version=VERSION)
        self.blobs = DirectoryStore(folder / "blobs")
        self.load()
        self.made = Receipts(lambda: self.views, self.blobs, "shardy", MESH)
        for device in (ADA, BO, CY):
            self.join(device, "1" * 64)
        self.log(submitted(SPEC))

    def load(self) -> None:
        """As after a restart: what was written, and nothing else."""
        self.views = Views()
        self.views.load(self.projection)
        self.views.flush = self.flush

    def flush(self) -> None:
        self.projection.commit(self.views.rows(), len(self.story.log.events))

    def log(self, *events: ev.Event) -> None:
        for recorded in self.story.add(*events):
            self.views.evolve(recorded)

    def join(self, device: Device, engine: str) -> None:
        probe = ev.Probe(1.0, 1.0, 256, "wasm", engine=engine)
        session = f"s-{device.id}-{engine[0]}"
        self.log(ev.WorkerJoined(device.id, session, "g", "i", "at", "agent", device.key.hex(), probe))

    def create(self, *devices: Device) -> None:
        for task, tile in zip(TASKS, TILES, strict=True):
            leases = [lease(task, i, device.id) for i, device in enumerate(devices)]
            self.log(ev.TaskCreated(task, JOB, tile, leases))

    def answer(self, device: Device, attempt: int, *tasks: int, signed: bool = True) -> None:
        """One frame with the results of these tasks."""
        names = [ids.lease_id(TASKS[i], attempt) for i in tasks]
        leaves = [merkle.leaf(n, self.bytes_of(i)[0], self.bytes_of(i)[1]) for n, i in zip(names, tasks, strict=True)]
        batch, joined = "", b"".join(leaves)
        if len(leaves) > 1 and signed:
            batch = blake3(joined).hexdigest()
            self.blobs.put_small([(batch, joined)])
        sig = device.sign(leaves) if signed else ""
        for index, i in enumerate(tasks):
            digest, size = self.bytes_of(i)
            self.log(
                ev.ResultSubmitted(
                    TASKS[i], JOB, names[index], device.id, digest.hex(), size, 1.0, "wasm", {}, sig, batch,
                    index if batch else 0,
                )
            )  # fmt: skip

    @staticmethod
    def bytes_of(i: int) -> tuple[bytes, int]:
        return blake3(i.to_bytes(4, "little")).digest(), 4 * TILES[i].cells

    def verify(self, *tasks: int, by: tuple[Device, ...] = (ADA, BO), method: str = "quorum", rounds: int = 0) -> None:
        for i in tasks:
            digest, size = self.bytes_of(i)
            ops = 2 * TILES[i].cells * 3
            workers = [device.id for device in by]
            self.log(ev.TaskVerified(TASKS[i], JOB, TILES[i], digest.hex(), size, workers, method, rounds, ops))

    def complete(self) -> None:
        self.log(ev.JobCompleted(JOB, 32, 3))

    async def receipt(self) -> bytes:
        job = self.views.job(JOB)
        assert job is not None
        _head, blocks = await self.made.of_job(job)
        return b"".join([block async for block in blocks])

    def task_receipt(self, i: int) -> bytes:
        job = self.views.job(JOB)
        assert job is not None
        return self.made.of_task(job, TASKS[i])


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.projection.close()
    mesh.blobs.close()


def done(mesh: Mesh, signed: bool = True) -> Mesh:
    mesh.create(ADA, BO)
    mesh.answer(ADA, 0, 0, 1, 2, signed=signed)
    mesh.answer(BO, 1, 2, signed=signed)
    mesh.answer(BO, 1, 0, 1, signed=signed)
    mesh.verify(2, 0, 1)
    mesh.complete()
    return mesh


@pytest.mark.parametrize("page", [1, 2, 100])
async def test_a_jobs_receipt_checks(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(receipts, "TASKS_PER_PAGE", page)
    data = await done(mesh).receipt()
    report = check(data, mesh_keys=[MESH.key])
    assert report.ok and report.vouched, report.problems
    assert (report.tasks, report.signed, report.unsigned, report.ops) == (3, 6, 0, 192)
    assert report.workers == {ADA.id: 3, BO.id: 3}
    assert data == canonical(load(data)), "the whole document is in canonical form"
    statement = load(data)["statement"]
    assert statement["requester"] == "requester" and statement["ops"] == "192" and statement["methods"] == {"quorum": 3}
    assert [task["tile"] for task in load(data)["tasks"]] == [[0, 2, 0, 2], [2, 6, 0, 2], [0, 8, 2, 2]]
    for i, task in enumerate(load(data)["tasks"]):
        alone = mesh.task_receipt(i)
        assert load(alone)["statement"] == task, "a task's own receipt states what the job's lists"
        assert check(alone, mesh_keys=[MESH.key]).ok


async def test_the_same_receipt_has_the_same_bytes_after_a_restart(mesh: Mesh) -> None:
    first = await done(mesh).receipt()
    assert await mesh.receipt() == first
    mesh.flush()
    mesh.load()
    mesh.made = Receipts(lambda: mesh.views, mesh.blobs, "shardy", MESH)
    assert await mesh.receipt() == first


@pytest.mark.parametrize("restart_after", ["joins", "created", "one answer", "answers", "verified"])
async def test_a_restart_at_any_point_loses_nothing(mesh: Mesh, restart_after: str) -> None:
    steps = {
        "joins": lambda: None,
        "created": lambda: mesh.create(ADA, BO),
        "one answer": lambda: mesh.answer(ADA, 0, 0, 1, 2),
        "answers": lambda: mesh.answer(BO, 1, 0, 1, 2),
        "verified": lambda: mesh.verify(0, 1, 2),
    }
    for name, act in steps.items():
        act()
        mesh.flush()  # so that a task's row is older than its answers
        if name == restart_after:
            mesh.load()
    mesh.complete()
    report = check(await mesh.receipt(), mesh_keys=[MESH.key])
    assert report.ok and report.signed == 6, report.problems


async def test_results_from_before_workers_signed_are_said_to_be_unsigned(mesh: Mesh) -> None:
    data = await done(mesh, signed=False).receipt()
    report = check(data, mesh_keys=[MESH.key])
    assert report.ok and (report.signed, report.unsigned) == (0, 6)
    assert load(data)["tasks"][0]["unsigned"] == [ADA.id, BO.id]


async def test_the_first_answer_is_the_vote(mesh: Mesh) -> None:
    """One voice per worker: a second lease of the same worker, or a second answer to one lease, changes nothing."""
    mesh.create(ADA, BO)
    mesh.answer(ADA, 0, 0, 1, 2)
    mesh.answer(ADA, 0, 0)
    for i, task in enumerate(TASKS):
        mesh.log(ev.TaskAssigned(task, JOB, TILES[i], [lease(task, 5, ADA.id)], "retry"))
    mesh.answer(ADA, 5, 0, 1, 2)
    mesh.answer(CY, 1, 0)  # somebody else's lease
    assert set(mesh.views.tasks[TASKS[0]].answers) == {ADA.id}
    mesh.answer(BO, 1, 0, 1, 2)
    mesh.verify(0, 1, 2)
    mesh.complete()
    data = load(await mesh.receipt())
    assert check(data, mesh_keys=[MESH.key]).ok
    assert {w["lease"].rpartition("-")[2] for task in data["tasks"] for w in task["workers"]} == {"0", "1"}
    assert {w["count"] for task in data["tasks"] for w in task["workers"]} == {3}


async def test_the_engine_is_the_one_that_the_worker_had_then(mesh: Mesh) -> None:
    mesh.create(ADA, BO)
    mesh.answer(ADA, 0, 0, 1, 2)
    mesh.join(ADA, "2" * 64)
    mesh.join(BO, "3" * 64)
    mesh.answer(BO, 1, 0, 1, 2)
    mesh.verify(0, 1, 2)
    mesh.complete()
    (one, two) = load(await mesh.receipt())["tasks"][0]["workers"]
    assert (one["engine"], two["engine"]) == ("1" * 64, "3" * 64)


async def test_only_those_who_gave_the_verified_bytes_are_named(mesh: Mesh) -> None:
    mesh.create(ADA, BO, CY)
    mesh.answer(ADA, 0, 0, 1, 2)
    mesh.answer(BO, 1, 0, 1, 2)
    mesh.answer(CY, 2, 0, 1, 2)
    mesh.verify(0, 1, 2, by=(CY,), method="arbitration", rounds=2)
    mesh.complete()
    report = check(await mesh.receipt(), mesh_keys=[MESH.key])
    assert report.ok and report.workers == {CY.id: 3} and report.methods == {"arbitration": 3}


async def test_there_is_no_receipt_of_what_is_not_verified(mesh: Mesh) -> None:
    mesh.create(ADA, BO)
    mesh.answer(ADA, 0, 0, 1, 2)
    mesh.answer(BO, 1, 0, 1, 2)
    mesh.verify(0)
    job = mesh.views.job(JOB)
    assert job is not None and check(mesh.task_receipt(0), mesh_keys=[MESH.key]).ok, "while the job runs"
    for task, status in ((TASKS[1], 409), (TASKS[1] + "0", 404)):
        with pytest.raises(Refused) as refused:
            mesh.made.of_task(job, task)
        assert refused.value.status == status
    with pytest.raises(Refused) as refused:
        await mesh.made.of_job(job)
    assert refused.value.status == 409 and "running" in refused.value.detail
    mesh.log(ev.TaskUnresolved(TASKS[1], JOB, "why"))
    with pytest.raises(Refused, match="unresolved"):
        mesh.task_receipt(1)
    mesh.log(ev.JobFailed(JOB, "task 1 has no verdict"))
    failed = mesh.views.job(JOB)
    assert failed is not None
    with pytest.raises(Refused, match="task 1 has no verdict"):
        await mesh.made.of_job(failed)


async def test_a_gateway_without_a_key_signs_nothing_and_says_so(mesh: Mesh) -> None:
    done(mesh)
    mesh.made = Receipts(lambda: mesh.views, mesh.blobs, "shardy", None)
    assert mesh.made.key == ""
    with pytest.raises(Transient, match="SHARDY_MESH_KEY_FILE"):
        await mesh.receipt()
    with pytest.raises(Transient, match="no key"):
        mesh.task_receipt(0)


@pytest.mark.parametrize("fault", ["missing", "another"])
async def test_evidence_that_is_gone_makes_no_receipt(mesh: Mesh, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather none than one that does not check."""
    if fault == "missing":
        monkeypatch.setattr(mesh.blobs, "put_small", lambda _items: None)
    mesh.create(ADA, BO)
    mesh.answer(ADA, 0, 0, 1, 2)
    monkeypatch.undo()
    mesh.answer(BO, 1, 0, 1, 2)
    if fault == "another":
        mesh.views.tasks[TASKS[0]].answers[ADA.id] = mesh.views.tasks[TASKS[1]].answers[ADA.id]
    mesh.verify(0, 1, 2)
    mesh.complete()
    with pytest.raises(Refused) as refused:
        await mesh.receipt()
    assert refused.value.status == 410


def test_mesh_keys_are_kept_in_the_order_of_their_use(mesh: Mesh) -> None:
    mesh.story.at(5)
    mesh.log(ev.MeshKeyed("b" * 64))
    mesh.story.at(9)
    mesh.log(ev.MeshKeyed("a" * 64))
    mesh.log(ev.MeshKeyed("b" * 64))
    wanted = {"b" * 64: 5, "a" * 64: 9}
    assert list(mesh.views.mesh_keys.known.items()) == list(wanted.items())
    mesh.flush()
    mesh.load()
    assert list(mesh.views.mesh_keys.known.items()) == list(wanted.items())


async def test_old_receipts_check_with_the_old_key(mesh: Mesh) -> None:
    """Rotation: the file is another, the gateway starts again, and what was handed out stays good."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from shardy_common.receipts import Signer

    old = await done(mesh).receipt()
    fresh = Signer(Ed25519PrivateKey.generate())
    mesh.made = Receipts(lambda: mesh.views, mesh.blobs, "shardy", fresh)
    new = await mesh.receipt()
    assert load(old)["statement"] == load(new)["statement"] and old != new
    for keys in ([MESH.key, fresh.key], [fresh.key, MESH.key]):
        assert check(old, mesh_keys=keys).vouched and check(new, mesh_keys=keys).vouched
    assert not check(old, mesh_keys=[fresh.key]).ok and not check(new, mesh_keys=[MESH.key]).ok
