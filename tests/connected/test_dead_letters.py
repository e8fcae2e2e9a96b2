"""Dead letters on a real stack: recorded with evidence, listed, replayed by what their cause calls for, closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from meshkit import PATIENCE_S, Workers, api, client, int8, of_job, product, same, until
from rawsocket import Closed, RawWorker

from bench.faults.logs import opened_log, read_log
from shardy_common import limits
from shardy_common.log import Append, Appended
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

Entry = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def quiet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack where nobody computes until a test says so."""
    async with Stack(tmp_path_factory.mktemp("quiet"), allow_same_address=True) as running:
        yield running
        broken = {m.name: m.log.read_text()[-2000:] for m in running.processes.values() if m.restarts}
        assert not broken, broken


@pytest_asyncio.fixture(loop_scope="session")
async def operator(quiet: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with api(quiet, quiet.operator_key) as http:
        yield http


@pytest_asyncio.fixture(loop_scope="session")
async def helpers(quiet: Stack, tmp_path: Path) -> AsyncIterator[Workers]:
    more = Workers(quiet, tmp_path)
    try:
        yield more
    finally:
        await more.stop()


async def letters(operator: httpx.AsyncClient, **query: Any) -> list[Entry]:
    answer = await operator.get("/v1/dlq", params={"limit": 1000, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["entries"]


async def letter(operator: httpx.AsyncClient, what: str, **fits: Any) -> Entry:
    """The newest entry with these fields or evidence, once there is one."""

    async def look() -> Entry | None:
        for entry in await letters(operator):
            if all(entry.get(name, entry["evidence"].get(name)) == value for name, value in fits.items()):
                return entry
        return None

    return await until(look, what)


async def closed(operator: httpx.AsyncClient, entry: str) -> Entry:
    async def look() -> Entry | None:
        shown = (await operator.get(f"/v1/dlq/{entry}")).json()
        return shown if shown["state"] != "open" else None

    return await until(look, f"{entry} is closed")


def problem(answer: httpx.Response, status: int, says: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"], answer.text


async def fails(raw: RawWorker) -> None:
    """Gives back whatever it is lent, until it is closed."""
    given: set[str] = set()
    with contextlib.suppress(Closed):
        while True:
            for lease in set(raw.leases) - given:
                given.add(lease)
                await raw.send({"t": "failed", "lease": lease, "code": "oom", "message": "not enough memory"})
            await raw.receive("lease")


@contextlib.asynccontextmanager
async def failing(stack: Stack, count: int) -> AsyncIterator[None]:
    """So many workers that give everything back: a task is lent to each of them once."""
    async with contextlib.AsyncExitStack() as workers:
        raws = [await workers.enter_async_context(RawWorker(stack, f"tired-{i}")) for i in range(count)]
        for raw in raws:
            await raw.join()
        tasks = [asyncio.create_task(fails(raw)) for raw in raws]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_exhausted_task_is_replayed_and_its_job_completes(
    quiet: Stack, operator: httpx.AsyncClient, helpers: Workers, rng: np.random.Generator
) -> None:
    a, b = int8(rng, 40, 16), int8(rng, 16, 9)
    async with client(quiet) as mesh, api(quiet) as requester:
        job = await mesh.submit_matmul(a, b, policy="audit", task_rows=4, label="hopeless")
        async with failing(quiet, limits.ATTEMPTS_MAX):

            async def over() -> bool:
                return (await job.status())["state"] == "failed"

            await until(over, "the job has failed")
        status = (await requester.get(f"/v1/jobs/{job.id}")).json()
        assert "given up after 12 leases" in status["error"]

        entry = await letter(operator, "the task's letter", cause="unresolved", job=job.id)
        evidence = entry["evidence"]
        assert entry["state"] == "open" and entry["entry"] == f"task-{evidence['task']}"
        assert entry["subject"] == f"task.unresolved.{evidence['task']}" and entry["seq"] > 0
        lent = json.loads(evidence["lent"])
        assert evidence["leases"] == "12" and len(lent) == 12 and len({worker for _, worker, _ in lent}) == 12
        assert {how for _, _, how in lent} == {"failed (oom) not enough memory"} and evidence["votes"] == "{}"
        assert json.loads(evidence["tile"])[2:] == [0, 9]
        events = of_job(await read_log(quiet), job.id)
        assert {e.trace.split("-")[1] for e in events} == {entry["trace"].split("-")[1]}, "the letter leads to the job"
        path = f"/v1/dlq/{entry['entry']}"
        assert (await operator.get(path)).json() == entry
        for what in (("GET", "/v1/dlq"), ("GET", path), ("POST", f"{path}/replay"), ("POST", f"{path}/discard")):
            problem(await requester.request(*what), 403, "operate")

        answers = await asyncio.gather(*(operator.post(f"{path}/replay") for _ in range(3)))
        assert {answer.status_code for answer in answers} <= {200, 409}
        replayed = next(answer.json() for answer in answers if answer.status_code == 200)
        assert replayed["entry"] == entry["entry"] and replayed["job"] == job.id
        assert (await requester.get(f"/v1/jobs/{job.id}")).json()["state"] == "running"
        shown = await closed(operator, entry["entry"])
        assert shown["state"] == "replayed" and shown["closed_by"] and job.id in shown["outcome"]
        for call in ("replay", "discard"):
            problem(await operator.post(f"{path}/{call}", json={"reason": "x"}), 409, "replayed already")

        await helpers.start("able")
        done = (await requester.get(f"/v1/jobs/{job.id}?wait=60")).json()
        assert done["state"] == "completed" and done["progress"]["cells_done"] == 360 and done["error"] is None
        same(await (await mesh.job(job.id)).result(), product(a, b))
        await helpers.stop("able")

        kinds = [type(e.event) for e in of_job(await read_log(quiet), job.id)]
        assert (kinds.count(ev.JobReopened), kinds.count(ev.JobFailed), kinds.count(ev.JobCompleted)) == (1, 1, 1)
        assert await letters(operator, state="open", cause="unresolved") == [], "all of the job's letters are answered"
        tasks = (await requester.get(f"/v1/jobs/{job.id}/tasks")).json()["tasks"]
        verified = [task for task in tasks if task["state"] == "verified"]
        assert sum(task["rows"] for task in verified) == 40
        assert {task["state"] for task in tasks} - {"verified"} <= {"unresolved", "dropped"}


async def test_a_reopened_job_fails_again_with_a_letter_of_its_own(
    quiet: Stack, operator: httpx.AsyncClient, rng: np.random.Generator
) -> None:
    async with client(quiet) as mesh, api(quiet) as requester:
        job = await mesh.submit_matmul(int8(rng, 4, 16), int8(rng, 16, 9), policy="audit", task_rows=4)
        async with failing(quiet, limits.ATTEMPTS_MAX):
            first = await letter(operator, "the first letter", cause="unresolved", job=job.id, state="open")
            assert (await operator.post(f"/v1/dlq/{first['entry']}/replay")).status_code == 200
            await closed(operator, first["entry"])  # until then it would be found again
            second = await letter(operator, "the second letter", cause="unresolved", job=job.id, state="open")
        assert second["entry"] != first["entry"]
        assert json.loads(second["evidence"]["tile"]) == json.loads(first["evidence"]["tile"])
        assert (await closed(operator, first["entry"]))["state"] == "replayed"
        assert (await requester.post(f"/v1/jobs/{job.id}/cancel")).status_code == 409, "it has failed"
        assert (await operator.post(f"/v1/dlq/{second['entry']}/replay")).status_code == 200
        assert (await requester.post(f"/v1/jobs/{job.id}/cancel")).json()["state"] == "cancelled"
        assert (await closed(operator, second["entry"]))["state"] == "replayed"


async def test_poison_is_passed_over_refused_and_discarded(
    quiet: Stack, operator: httpx.AsyncClient, helpers: Workers, rng: np.random.Generator
) -> None:
    async with opened_log(quiet, "matchmaker") as log:
        ack = json.loads((await log.client.request("job.failed.j-odd", b'{"e":"job.failed/7"}', timeout=5)).data)
    entry = await letter(operator, "the poison's letter", cause="poison", seq=ack["seq"])
    evidence = entry["evidence"]
    assert entry["subject"] == evidence["subject"] == "job.failed.j-odd" and entry["state"] == "open"
    assert bytes.fromhex(evidence["bytes"]) == b'{"e":"job.failed/7"}' and evidence["size"] == "20"
    assert "job.failed/7" in evidence["error"] and evidence["reader"] in ("gateway", "matchmaker", "quorum")

    await helpers.start("one", "two")
    a, b = int8(rng, 20, 16), int8(rng, 16, 5)
    async with client(quiet) as mesh:
        same(await mesh.matmul(a, b, task_rows=5, timeout_s=PATIENCE_S), product(a, b))
    await helpers.stop("one", "two")

    path = f"/v1/dlq/{entry['entry']}"
    problem(await operator.post(f"{path}/replay"), 409, evidence["error"])
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": 5}, {"reason": "x" * 501}):
        problem(await operator.post(f"{path}/discard", json=body), 422, "1 to 500 characters")
    problem(await operator.post(f"{path}/discard", content=b"["), 400)
    assert (await operator.get(path)).json()["state"] == "open"
    reasons = ["x" * 500, "written by hand"]
    answers = await asyncio.gather(*(operator.post(f"{path}/discard", json={"reason": r}) for r in reasons))
    assert sorted(answer.status_code for answer in answers) == [200, 409], "two at once: one closes it"
    won = next(answer.json() for answer in answers if answer.status_code == 200)
    assert won["entry"] == entry["entry"] and won["outcome"] in reasons
    shown = (await operator.get(path)).json()
    assert (shown["state"], shown["outcome"]) == ("discarded", won["outcome"]) and shown["closed_by"]
    problem(await operator.post(f"{path}/replay"), 409, "discarded already")
    assert entry["entry"] not in {e["entry"] for e in await letters(operator, state="open")}
    assert entry["entry"] in {e["entry"] for e in await letters(operator, state="discarded", cause="poison")}
    for call in (("GET", "/v1/dlq/nothing"), ("POST", "/v1/dlq/nothing/replay"), ("POST", "/v1/dlq/a%20b/discard")):
        problem(await operator.request(*call), 404)


async def test_another_services_event_is_appended_by_that_service(quiet: Stack, operator: httpx.AsyncClient) -> None:
    """The gateway may not append it; it asks who may, and sees in the log that it was done. The letter is written here,
    for bytes that this version can read: as after an upgrade."""
    event = ev.TaskExpired("t-of-no-job", "no-job", [], "a test")
    async with opened_log(quiet, "matchmaker") as log:
        (outcome,) = await log.append([Append(event, "odd")])
    assert isinstance(outcome, Appended)
    entry = f"poison-{outcome.seq}"
    async with opened_log(quiet, "dlq") as log:
        told = ev.DlqRecorded(entry, "poison", event.subject, outcome.seq, {"subject": event.subject, "bytes": ""})
        assert isinstance((await log.append([Append(told, entry, 0)]))[0], Appended)
    await letter(operator, "the letter is there", cause="poison", seq=outcome.seq)
    answer = await operator.post(f"/v1/dlq/{entry}/replay")
    assert answer.status_code == 200 and "read again and appended as message" in answer.json()["outcome"], answer.text
    again = [e for e in await read_log(quiet) if e.subject == event.subject]
    assert [e.event for e in again] == [event, event]
    assert again[1].seq == int(answer.json()["outcome"].split()[-1])


async def test_a_message_that_nobody_acknowledges(quiet: Stack, operator: httpx.AsyncClient) -> None:
    """A consumer that never acknowledges. A replay gives it the message, and all that follow, once more."""
    async with opened_log(quiet) as log:
        got: list[int] = []

        def deliver(_subject: bytes, reply: bytes, _data: bytes, _headers: bytes | None) -> None:
            got.append(int(reply.split(b".")[5]))

        await log.client.subscribe_raw("_DELIVER.operator.stubborn", deliver)
        config = {
            "durable_name": "stubborn",
            "deliver_subject": "_DELIVER.operator.stubborn",
            "ack_policy": "explicit",
            "ack_wait": 300_000_000,
            "max_deliver": 2,
            "filter_subject": "worker.joined.*",
        }
        joined = [e for e in await read_log(quiet) if isinstance(e.event, ev.WorkerJoined)]
        assert len(joined) > 2
        start = joined[-2].seq
        request = {
            "stream_name": "EVENTS",
            "config": {**config, "deliver_policy": "by_start_sequence", "opt_start_seq": start},
        }
        reply = await log.client.request("$JS.API.CONSUMER.CREATE.EVENTS.stubborn", json.dumps(request).encode())
        assert "error" not in json.loads(reply.data), reply.data

        first = await letter(operator, "the message is given up", cause="max-deliveries", seq=start)
        evidence = first["evidence"]
        assert (evidence["stream"], evidence["consumer"], evidence["deliveries"]) == ("EVENTS", "stubborn", "2")
        assert first["subject"] == evidence["subject"] == joined[-2].subject and first["trace"] == joined[-2].trace
        await letter(operator, "so is the next", cause="max-deliveries", seq=joined[-1].seq)
        assert got.count(start) == 2
        await asyncio.sleep(1)
        about = [e for e in await letters(operator, cause="max-deliveries") if e["seq"] == start]
        assert len(about) == 1, "recorded once"

        answer = await operator.post(f"/v1/dlq/{first['entry']}/replay")
        assert answer.status_code == 200 and "stubborn" in answer.json()["outcome"], answer.text
        assert (await operator.get(f"/v1/dlq/{first['entry']}")).json()["state"] == "replayed"

        async def again() -> bool:
            return got.count(start) > 2 and got.count(joined[-1].seq) > 2

        await until(again, "both are delivered again")
        info = json.loads((await log.client.request("$JS.API.CONSUMER.INFO.EVENTS.stubborn", b"")).data)["config"]
        assert {name: info[name] for name in config} == config and info["opt_start_seq"] == start
        names = json.loads((await log.client.request("$JS.API.CONSUMER.NAMES.EVENTS", b"")).data)["consumers"]
        assert not [name for name in names if name.startswith("note-")], "the note is gone"

        second = await letter(operator, "given up again", cause="max-deliveries", seq=start, state="open")
        assert second["entry"] != first["entry"]
        await log.client.request("$JS.API.CONSUMER.DELETE.EVENTS.stubborn", b"")
        problem(await operator.post(f"/v1/dlq/{second['entry']}/replay"), 409, "exists no longer")
        for entry in await letters(operator, state="open", cause="max-deliveries"):
            done = await operator.post(f"/v1/dlq/{entry['entry']}/discard", json={"reason": "a test's consumer"})
            assert done.status_code == 200


async def test_a_fraud_is_replayed_as_a_job_of_its_own(
    quiet: Stack, operator: httpx.AsyncClient, helpers: Workers, rng: np.random.Generator
) -> None:
    await helpers.start("judas", mode="liar", row=2)
    await helpers.start("hon", "est")
    a, b = int8(rng, 200, 16), int8(rng, 16, 9)
    async with client(quiet) as mesh, api(quiet) as requester:
        job = await mesh.submit_matmul(a, b, policy="audit", task_rows=5)
        await job.wait(timeout_s=PATIENCE_S)
        entry = await letter(operator, "the fraud's letter", cause="fraud", job=job.id)
        tasks = {t["id"]: t for t in (await requester.get(f"/v1/jobs/{job.id}/tasks")).json()["tasks"]}
        tile = tasks[entry["evidence"]["task"]]
        answer = await operator.post(f"/v1/dlq/{entry['entry']}/replay")
        assert answer.status_code == 200, answer.text
        again = answer.json()["job"]
        assert again in answer.json()["outcome"]
        assert (await operator.get(f"/v1/dlq/{entry['entry']}")).json()["outcome"] == answer.json()["outcome"]
        done = (await operator.get(f"/v1/jobs/{again}?wait=60")).json()
        assert (done["state"], done["policy"]) == ("completed", "audit") and entry["entry"] in done["label"]
        part = (await operator.get(f"/v1/jobs/{again}/result/c")).content
        rows = slice(tile["row0"], tile["row0"] + tile["rows"])
        assert part[-4 * tile["rows"] * 9 :] == product(a, b)[rows].astype("<i4").tobytes()
        problem(await requester.get(f"/v1/jobs/{again}"), 404)
        assert (await requester.get(f"/v1/jobs/{job.id}")).json()["state"] == "completed"
        same(await job.result(), product(a, b))


async def test_pages_of_letters(quiet: Stack, operator: httpx.AsyncClient) -> None:
    async with opened_log(quiet, "matchmaker") as log:
        for i in range(5):
            await log.client.request(f"job.failed.page-{i}", b"?", timeout=5)
    await until(lambda: _count(operator, 5), "all are recorded")
    found: list[str] = []
    before = None
    while True:
        query = {"limit": 2, "cause": "poison", "state": "open", **({"before": before} if before else {})}
        page = (await operator.get("/v1/dlq", params=query)).json()
        found += [entry["subject"] for entry in page["entries"]]
        before = page["next"]
        if before is None:
            break
    assert sorted(found) == sorted(f"job.failed.page-{i}" for i in range(5))


async def _count(operator: httpx.AsyncClient, count: int) -> bool:
    return len(await letters(operator, cause="poison", state="open")) == count
