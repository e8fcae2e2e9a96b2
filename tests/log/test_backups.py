"""Backups of log, archive, blobs and keys while the log goes on, put back elsewhere: everything is equal, and nothing
that was changed is put back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archivekit import filled, folded, story
from blake3 import blake3
from nats_process import NatsProcess

from shardy_common.backup import BackupError, backup, check, manifest_of, restore
from shardy_common.blobs import DirectoryStore
from shardy_common.log import Append, Appended, Conflict, JetStreamLog
from shardy_common.log.archiving import Archiver
from shardy_common.log.client import connect
from shardy_common.log.retention import Policy
from shardy_common.replay import replay_archive, replay_backup
from shardy_common.runtime import log_server
from shardy_common.stack import StackError
from shardy_common.wire import events as ev

pytestmark = pytest.mark.connected
SMALL, LARGE = b"small" * 10, b"large" * 40_000


@pytest.fixture
async def log(server: NatsProcess, tmp_path: Path) -> AsyncIterator[JetStreamLog]:
    """A data folder as that of a stack that runs, as far as its commands look at it."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "runtime.json").write_text(json.dumps({"nats_url": server.url, "nats_password": "any"}))
    for name in ("operator_key", "mesh_key"):
        (data / name).write_text(f"the {name}\n")
    for left in ("logs", "projections"):
        (data / left).mkdir()
        (data / left / "any").write_text("made anew")
    store = DirectoryStore(data / "blobs")
    store.put([(blake3(blob).hexdigest(), blob) for blob in (SMALL, LARGE)])
    store.close()
    log = await JetStreamLog.open(server.url, name="test", archive=data / "archive")
    await log.make_stream({"name": "ADVISORIES", "subjects": ["advised.>"]})
    await filled(log, 60)
    await Archiver(log, Policy(-60, 100, 300)).run()
    yield log
    await log.close()


async def test_a_restored_log_is_the_same(log: JetStreamLog, tmp_path: Path) -> None:
    before = await folded(log, tmp_path)
    appending = asyncio.create_task(_appends(log))
    made = await backup(tmp_path / "data", tmp_path / "copy")
    appended = await appending
    assert appended and made.last_seq >= 1_380
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "copy").rglob("*")}
    assert modes == {0}, "nobody else may read any of it"
    names = set(made.files)
    assert {"secrets/operator_key", "secrets/mesh_key"} <= names and not [n for n in names if "any" in n or "run" in n]

    await restore(tmp_path / "copy", tmp_path / "new")
    assert (tmp_path / "new" / "operator_key").read_text() == "the operator_key\n"
    store = DirectoryStore(tmp_path / "new" / "blobs")
    assert [store.read(blake3(blob).hexdigest()) for blob in (SMALL, LARGE)] == [SMALL, LARGE]
    store.close()
    async with log_server(tmp_path / "new") as client:
        again = JetStreamLog(client, "EVENTS", tmp_path / "new" / "archive")
        await again.appender.start()
        assert await again.last_seq() >= made.last_seq and (await again.extent()) == (await log.extent())
        # what was there before the backup is there with the same sequences and times, and expectations hold
        assert [await again.get(seq) for seq in (1, 700, 1_380)] == [await log.get(seq) for seq in (1, 700, 1_380)]
        seed = tmp_path / "new" / "nkeys" / "matchmaker.seed"
        matchmaker = await connect(str(client.connected_url.geturl()), name="test", role="matchmaker", seed_file=seed)
        writing = JetStreamLog(matchmaker, "EVENTS")
        await writing.appender.start()
        once = Append(ev.JobFailed("j00001", "end"), "late", 0)
        assert isinstance((await writing.append([once]))[0], Conflict)
        fresh = (await writing.append([Append(ev.JobFailed("fresh", "end"), "fresh", 0)]))[0]
        await writing.close()
        assert isinstance(fresh, Appended) and fresh.seq == await again.last_seq()
        (tmp_path / "folds").mkdir()
        assert (await folded(again, tmp_path / "folds")) != before
    with pytest.raises(BackupError, match="is not empty: restore into a new folder"):
        await restore(tmp_path / "copy", tmp_path / "new")


async def _appends(log: JetStreamLog) -> int:
    """The log goes on while it is copied."""
    items = [item for job in range(100, 130) for item in story(f"j{job:05d}", 10)]
    return sum(isinstance(outcome, Appended) for outcome in await log.append(items))


async def test_a_second_backup_adds_what_is_new(log: JetStreamLog, tmp_path: Path) -> None:
    first = await backup(tmp_path / "data", tmp_path / "copy", try_it=False)
    kept = {path: path.stat().st_ino for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    await filled(log, 90)
    await Archiver(log, Policy(-60, 100, 300)).run()
    store = DirectoryStore(tmp_path / "data" / "blobs")
    store.put([(blake3(b"more").hexdigest(), b"more")])
    store.close()
    second = await backup(tmp_path / "data", tmp_path / "copy", try_it=False)
    assert second.last_seq > first.last_seq and len(second.files) > len(first.files)
    lasting = [path for path in kept if "archive" in path.parts or "large" in path.parts]
    assert lasting and all(path.stat().st_ino == kept[path] for path in lasting), "what never changes is copied once"
    assert manifest_of(tmp_path / "copy") == second
    await restore(tmp_path / "copy", tmp_path / "new")
    async with log_server(tmp_path / "new") as client:
        again = JetStreamLog(client, "EVENTS", tmp_path / "new" / "archive")
        (tmp_path / "folds").mkdir()
        assert await folded(again, tmp_path / "folds") == await folded(log, tmp_path)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("EVENTS.snapshot", "is not what was backed up"),
        ("archive/*.gz", "is not what was backed up"),
        ("blobs/large/*/*", "is not what was backed up"),
        ("blobs/packs/*.pack", "is not what was backed up"),
        ("secrets/operator_key", "is not what was backed up"),
        ("backup.json", "was changed|has format"),
    ],
)
async def test_what_was_changed_is_not_put_back(log: JetStreamLog, tmp_path: Path, which: str, words: str) -> None:
    await backup(tmp_path / "data", tmp_path / "copy", try_it=False)
    path = next((tmp_path / "copy").glob(which))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BackupError, match=words):
        await restore(tmp_path / "copy", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    path.unlink()
    with pytest.raises(BackupError, match="is missing"):
        await restore(tmp_path / "copy", tmp_path / "new")


async def test_what_cannot_be_backed_up_is_said(log: JetStreamLog, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="lies in the data folder itself"):
        await backup(tmp_path / "data", tmp_path / "data" / "copy")
    with pytest.raises(StackError, match="no running stack"):
        await backup(tmp_path / "nothing", tmp_path / "copy")
    with pytest.raises(BackupError, match=r"holds no complete backup: backup.json is missing"):
        await restore(tmp_path / "copy", tmp_path / "new")
    blob = next((tmp_path / "data" / "blobs" / "large").glob("*/*"))
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    with pytest.raises(BackupError, match="is damaged: its bytes have another BLAKE3"):
        await backup(tmp_path / "data", tmp_path / "copy", try_it=False)
    assert not (tmp_path / "copy" / "backup.json").exists()


async def test_copies_are_replayed_without_a_mesh(log: JetStreamLog, tmp_path: Path) -> None:
    """Two folds of the same log are equal; an event that nobody can read is counted, and written to nobody."""
    await log.client.request("task.created.odd", b"\xff", timeout=5)
    await filled(log, 61)
    made = await backup(tmp_path / "data", tmp_path / "copy", try_it=False)
    check(tmp_path / "copy", made)
    once, twice = [{r.service: r for r in await replay_backup(tmp_path / "copy", None)} for _ in range(2)]
    assert set(once) == {"gateway", "matchmaker", "quorum", "prover-verifier", "gossip-bridge", "dlq"}
    for name, result in once.items():
        assert not result.error and result.equal is None and result.checksum == twice[name].checksum, result
    assert once["gateway"].unreadable == 1 and once["gateway"].events > 700
    assert await log.last_seq() == made.last_seq
    half = await replay_backup(tmp_path / "copy", 700)
    assert all(result.checkpoint <= 700 for result in half)
    files = {r.service: r for r in await replay_archive(tmp_path / "copy" / "archive", 700)}
    assert {r.service: r.checksum for r in half} == {name: r.checksum for name, r in files.items()}


async def test_any_change_of_the_manifest_is_noticed(log: JetStreamLog, tmp_path: Path) -> None:
    """A flipped bit anywhere; but one of the format before, which has no seal, is still read."""
    await backup(tmp_path / "data", tmp_path / "copy", try_it=False)
    path = tmp_path / "copy" / "backup.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BackupError, match=r"was changed|has format"):
            manifest_of(tmp_path / "copy")
    before = json.loads(whole) | {"format": 1}
    del before["seal"]
    path.write_text(json.dumps(before))
    made = await restore(tmp_path / "copy", tmp_path / "new")
    assert made.format == 1 and made.files
