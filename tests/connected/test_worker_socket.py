"""Tampering on the worker's socket: each rule of docs/protocol.md broken once, and honest work goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from meshkit import Workers, int8, of_job, product, same, until, workers_named
from rawsocket import RESULTS_TAG, Closed, Header, RawWorker, frame, leaf_of, tree

from bench.faults.logs import read_log
from shardy_client import AsyncMesh
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

MIB = 1 << 20
NAN, INF = float("nan"), float("inf")


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def honest_work_goes_on(
    honest: Workers, stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator
) -> AsyncIterator[None]:
    """After each test: a job completes with the right bytes, and nobody was called a fraud."""
    before = len((await http.get("/v1/frauds")).json()["frauds"])
    yield
    a, b = int8(rng, 20, 16), int8(rng, 16, 5)
    same(await mesh.matmul(a, b, task_rows=5, timeout_s=90), product(a, b))
    assert len((await http.get("/v1/frauds")).json()["frauds"]) == before


@pytest_asyncio.fixture(loop_scope="session")
async def raw(stack: Stack) -> AsyncIterator[RawWorker]:
    async with RawWorker(stack) as raw:
        yield raw


async def test_an_honest_raw_worker_joins_and_leaves(raw: RawWorker, http: httpx.AsyncClient) -> None:
    """The helper itself keeps to the protocol: what it is refused for below is the tampering alone."""
    tier = await raw.join()
    assert tier["tier"] == "wasm-laptop" and tier["max_leases"] > 0 and tier["heartbeat_s"] == 15
    await raw.send({"t": "heartbeat", "visible": True, "throttled": False, "active": 0})
    assert (await raw.receive("heartbeat"))["t"] == "heartbeat"
    await raw.leave()
    assert raw.bye is not None and raw.bye["code"] == 1000


# -- before the handshake ---------------------------------------------------------------------------------------------

HELLO: Header = {"t": "hello", "versions": [2], "key": bytes(32), "agent": "x", "held": []}
DEEP = b"\x91" * 200_000 + b"\xc0"
MESSAGES: dict[str, tuple[bytes | str, int]] = {
    "text": ("hello", 4400),
    "empty": (b"", 4400),
    "short": (b"SHY1", 4400),
    "bad magic": (b"SHY2" + frame(HELLO)[4:], 4400),
    "no header": (b"SHY1" + bytes(4), 4400),
    "header runs past the end": (b"SHY1" + (400).to_bytes(4, "little") + bytes(16), 4400),
    "header of four gigabytes": (b"SHY1" + b"\xff\xff\xff\xff" + bytes(16), 4413),
    "header over a mebibyte": (frame({**HELLO, "held": ["x" * 64] * 16_400}), 4413),
    "segment past the end": (frame({**HELLO, "seg": [8]}), 4400),
    "negative segment": (frame({**HELLO, "seg": [-8]}), 4400),
    "segment of a float": (frame({**HELLO, "seg": [0.0]}), 4400),
    "segments that are no list": (frame({**HELLO, "seg": "abc"}), 4400),
    "too many segments": (frame({**HELLO, "seg": [0] * 4097}), 4413),
    "bytes after the end": (frame(HELLO) + bytes(8), 4400),
    "not MessagePack": (frame(b"\xc1" * 24), 4400),
    "a list": (frame(b"\x93\x01\x02\x03"), 4400),
    "keys that are numbers": (frame(b"\x81\x01\x02"), 4400),
    "nested too deep": (frame(b"\x81\xa1t" + DEEP), 4400),
    "a map of four billion": (frame(b"\xdf\xff\xff\xff\xff\xa1t"), 4400),
    "a string of four gigabytes": (frame(b"\x81\xa1t\xdb\xff\xff\xff\xff"), 4400),
    "not UTF-8": (frame(b"\x81\xa1t\xa2\xff\xfe"), 4400),
    "an extension type": (frame(b"\x81\xa1t\xd4\x05\x00"), 4400),
    "no type": (frame({"versions": [2]}), 4400),
    "type is a number": (frame({"t": 7}), 4400),
    "unknown type": (frame({"t": "shutdown"}), 4400),
    "result before joining": (frame({"t": "result", "results": []}), 4400),
    "version 1 only": (frame({**HELLO, "versions": [1, 99]}), 4406),
    "no version": (frame({**HELLO, "versions": []}), 4406),
    "version as text": (frame({**HELLO, "versions": ["2"]}), 4406),
    "versions that are no list": (frame({**HELLO, "versions": 2}), 4406),
    "no key": (frame({k: v for k, v in HELLO.items() if k != "key"}), 4400),
    "short key": (frame({**HELLO, "key": bytes(31)}), 4400),
    "key as text": (frame({**HELLO, "key": "k" * 32}), 4400),
    "held is no list": (frame({**HELLO, "held": {"a": 1}}), 4400),
    "held holds numbers": (frame({**HELLO, "held": [1]}), 4400),
    "too many held": (frame({**HELLO, "held": ["x"] * 4097}), 4400),
}


async def test_malformed_first_messages(stack: Stack) -> None:
    for name, (message, code) in MESSAGES.items():
        async with RawWorker(stack) as raw:
            await raw.raw(message)
            closed = await raw.closed()
            assert closed.code == code, f"{name}: {closed}"
            assert closed.reason, name


async def test_random_messages(stack: Stack) -> None:
    """Bytes without any sense, and sensible ones with bytes changed."""
    rng = np.random.default_rng(4)
    for i in range(40):
        message = bytearray(frame(HELLO))
        if i % 2:
            message[8:] = rng.bytes(len(message) - 8)
        else:
            for at in rng.integers(0, len(message), 1 + i % 5):
                message[at] ^= int(rng.integers(1, 256))
        async with RawWorker(stack) as raw:
            await raw.raw(bytes(message))
            try:
                assert (await raw.receive())["t"] in ("challenge", "bye")
            except Closed as closed:
                assert closed.code in (4400, 4406, 4413)


@pytest.mark.parametrize(("size", "codes"), [(16 * MIB + 16, {4413}), (24 * MIB, {4413, 1009})])
async def test_oversized_frames(raw: RawWorker, size: int, codes: set[int]) -> None:
    """Far over the limit, the web server closes with its own code (RFC 6455: 1009) before it has read the frame."""
    head = frame(HELLO)
    await raw.raw(head + bytes(size - len(head)))
    assert (await raw.closed()).code in codes


# -- signature and probe ----------------------------------------------------------------------------------------------


async def test_signatures_that_do_not_fit(stack: Stack) -> None:
    def flipped(raw: RawWorker, challenge: Header) -> Any:
        right = raw.sign(challenge)
        return right[:-1] + bytes([right[-1] ^ 1])

    wrong = {
        "one bit": flipped,
        "another key": lambda raw, c: Ed25519PrivateKey.generate().sign(
            b"shardy-join-v1\0" + c["nonce"] + raw.public + c["session"].encode()
        ),
        "another domain": lambda raw, c: raw.key.sign(
            b"shardy-join-v2\0" + c["nonce"] + raw.public + c["session"].encode()
        ),
        "the nonce alone": lambda raw, c: raw.key.sign(c["nonce"]),
        "another session": lambda raw, c: raw.sign({**c, "session": "0" * 16}),
        "another nonce": lambda raw, c: raw.sign({**c, "nonce": os.urandom(32)}),
        "empty": lambda raw, c: b"",
        "text": lambda raw, c: "signature",
        "missing": lambda raw, c: None,
    }
    for name, sign in wrong.items():
        async with RawWorker(stack) as raw:
            await raw.send({"t": "auth", "sig": sign(raw, await raw.hello())})
            assert (await raw.closed()).code == 4401, name


async def test_a_signature_cannot_be_used_again(stack: Stack) -> None:
    async with RawWorker(stack) as first:
        used = first.sign(await first.hello())
        await first.send({"t": "auth", "sig": used})
        assert (await first.receive())["t"] == "probe"
        async with RawWorker(stack, key=first.key) as second:
            await second.hello()
            await second.send({"t": "auth", "sig": used})
            assert (await second.closed()).code == 4401


async def test_a_key_of_no_point_is_refused(stack: Stack) -> None:
    async with RawWorker(stack) as raw:
        challenge = await raw.hello(key=b"\xff" * 32)
        await raw.send({"t": "auth", "sig": raw.sign(challenge)})
        assert (await raw.closed()).code == 4401


PROBED: list[tuple[str, Header, int]] = [
    ("digest of zeros", {"digest": bytes(32)}, 4401),
    ("no digest", {"digest": None}, 4401),
    ("digest as text", {"digest": "00" * 32}, 4401),
    ("no rate", {"gops": None}, 4400),
    ("rate zero", {"gops": 0.0}, 4400),
    ("rate below zero", {"gops": -5.0}, 4400),
    ("rate NaN", {"gops": NAN}, 4400),
    ("rate infinite", {"gops": INF}, 4400),
    ("rate as text", {"gops": "10"}, 4400),
    ("time as text", {"ms": "1"}, 4400),
    ("time NaN", {"ms": NAN}, 4400),
    ("time infinite", {"ms": INF}, 4400),
    ("time below zero", {"ms": -1.0}, 4400),
    ("no memory", {"memory_mib": 0}, 4400),
    ("memory below zero", {"memory_mib": -64}, 4400),
    ("memory over what was allowed", {"memory_mib": 1 << 40}, 4400),
    ("memory as a float", {"memory_mib": 512.5}, 4400),
    ("too small for any tier", {"memory_mib": 1}, 4401),
    ("another frame", {"t": "heartbeat"}, 4400),
    ("leave", {"t": "leave"}, 4400),
]


async def test_probe_answers_that_do_not_hold(stack: Stack) -> None:
    for name, tamper, code in PROBED:
        async with RawWorker(stack) as raw:
            await raw.send({**raw.answer(await raw.challenged()), **tamper})
            closed = await raw.closed()
            assert closed.code == code, f"{name}: {closed}"


async def test_a_probe_answer_of_another_session_is_refused(stack: Stack) -> None:
    async with RawWorker(stack) as first, RawWorker(stack) as second:
        answer = first.answer(await first.challenged())
        await second.challenged()
        await second.send(answer)
        assert (await second.closed()).code == 4401


async def test_odd_but_harmless_descriptions_are_cut(stack: Stack, http: httpx.AsyncClient) -> None:
    """What is only shown may be anything; it is cut to its limit and hurts nobody."""
    name = "odd" + "x" * 500
    async with RawWorker(stack, name) as raw:
        await raw.join(backend="q" * 5000, gpu="g" * 5000, engine=7, kernels=["k"], unknown={"a": [1]}, gops=9e6)
        listed = await until(lambda: workers_named(http, name[:120]), "the worker is listed")
        assert listed[0]["backend"] == "q" * 16 and listed[0]["gpu"] == "g" * 120
        await raw.leave()


# -- after joining ----------------------------------------------------------------------------------------------------

JOINED: dict[str, tuple[bytes | str, int]] = {
    "text": ("heartbeat", 4400),
    "garbage": (os.urandom(64), 4400),
    "hello again": (frame(HELLO), 4400),
    "auth again": (frame({"t": "auth", "sig": bytes(64)}), 4400),
    "a frame of the mesh": (frame({"t": "tier", "tier": "gpu-large", "max_leases": 512}), 4400),
    "unknown type": (frame({"t": "x" * 10_000}), 4400),
    "results missing": (frame({"t": "result"}), 4400),
    "results a map": (frame({"t": "result", "results": {}}), 4400),
    "a result that is a number": (frame({"t": "result", "results": [1]}), 4400),
    "a result without lease": (frame({"t": "result", "results": [{}]}), 4400),
    "a lease that is a number": (frame({"t": "result", "results": [{"lease": 3}]}), 4400),
    "513 results": (frame({"t": "result", "results": [{"lease": "a-0"}] * 513}), 4413),
}


async def test_frames_that_end_a_joined_session(stack: Stack) -> None:
    for name, (message, code) in JOINED.items():
        async with RawWorker(stack) as raw:
            await raw.join()
            await raw.raw(message)
            closed = await raw.closed()
            assert closed.code == code, f"{name}: {closed}"
            assert closed.bye is not None and closed.bye["code"] == code, name


async def test_the_same_key_twice(stack: Stack, http: httpx.AsyncClient) -> None:
    async with RawWorker(stack, "twin") as first, RawWorker(stack, "twin", key=first.key) as second:
        await first.join()
        await second.join()
        assert (await first.closed()).code == 4409
        await second.send({"t": "heartbeat"})
        await second.receive("heartbeat")
        async with first.http() as old:
            assert (await old.get("/v1/worker/blobs/" + "0" * 64)).status_code == 401
        (shown,) = await workers_named(http, "twin")
        assert shown["present"]
        await second.leave()


async def test_results_that_do_not_fit(
    stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator
) -> None:
    """All four workers of the mesh are asked; the raw one hands in everything but the right thing, then that."""
    a, b = int8(rng, 6, 16), int8(rng, 16, 5)
    async with RawWorker(stack) as raw:
        await raw.join()
        job = await mesh.submit_matmul(a, b, redundancy=4, task_rows=6)
        lease = await raw.lease_of(job.id)
        right = await raw.compute(lease)
        ids = lease["lease"]
        task = (await mesh.tasks(job.id))["tasks"][0]
        others = [other for other in task["leases"] if other != ids]
        assert len(others) == 3

        malformed: list[Header] = [
            {"digest": bytes(32)},
            {"len": len(right) + 1},
            {"len": 0},
            {"s": 1},
            {"s": -1},
            {"digest": bytes(32), "s": None},
            {"s": True},
            {"s": "0"},
            {"s": 1 << 62},
        ]
        for tamper in malformed:
            assert await raw.result(lease, right, **tamper) == "malformed", tamper
        for data in (b"", right[:-1], right + b"\0", bytes([right[0] ^ 1]) + right[1:]):
            tamper = {"digest": blake3(right).digest()}
            assert await raw.result(lease, data, **tamper) == "malformed", len(data)
        for other in [*others, "x", "", "-", f"{lease['task']}-99", "💥-0", "a.b.*.>-0", "x" * 5000]:
            assert await raw.result({**lease, "lease": other}, right) == "unknown", other
        # a lease that is not one's own cannot be given back either
        await raw.send({"t": "failed", "lease": others[0], "code": "oom", "message": "x"})
        await raw.send({"t": "failed", "lease": 5})
        await raw.send({"t": "failed"})
        # what is only shown may be nonsense
        shown = {"ms": NAN, "backend": 5, "spans": {"x" * 100: NAN, "y": "z"}, "task": "another", "extra": [1]}
        assert await raw.result(lease, right, **shown) == "accepted"
        assert await raw.result(lease, right) in ("accepted", "late")
        await job.wait(timeout_s=90)
        same(await job.result(), product(a, b))
        assert await raw.result(lease, right) == "late"
        assert job.last["frauds"] == []
        (task,) = (await mesh.tasks(job.id))["tasks"]
        assert len(set(task["verified_by"])) == 4
        await raw.leave()


async def test_result_signatures_that_do_not_fit(stack: Stack, mesh: AsyncMesh, rng: np.random.Generator) -> None:
    """Each ends the session with 4401 or 4400 and records nothing; the right signature is taken after them all."""
    a, b = int8(rng, 6, 16), int8(rng, 16, 5)
    other = Ed25519PrivateKey.generate()
    async with RawWorker(stack) as first:
        await first.join()
        job = await mesh.submit_matmul(a, b, redundancy=4, task_rows=6)
        lease = await first.lease_of(job.id)
        right = await first.compute(lease)
        entry = {"lease": lease["lease"], "task": lease["task"], "digest": blake3(right).digest(), "len": len(right)}
        entry |= {"s": 0, "ms": 1.0, "backend": "wasm", "spans": {}}
        good = first.sign_results([entry])
        message = RESULTS_TAG + tree([leaf_of(entry)])
        assert first.key.sign(message) == good
        wrong: dict[str, tuple[Any, Header, int]] = {
            "none": (None, {}, 4401),
            "of text": ("a" * 64, {}, 4401),
            "too short": (good[:-1], {}, 4401),
            "one bit changed": (bytes([good[0] ^ 1]) + good[1:], {}, 4401),
            "another's key": (other.sign(message), {}, 4401),
            "the join's tag": (first.key.sign(b"shardy-join-v1\0" + message), {}, 4401),
            "of another digest": (good, {"digest": bytes(32)}, 4401),
            "of another length": (good, {"len": len(right) + 1}, 4401),
            "of another lease": (good, {"lease": lease["task"] + "-9"}, 4401),
            "a digest of 31 bytes": (good, {"digest": bytes(31)}, 4400),
            "a digest as text": (good, {"digest": "0" * 64}, 4400),
            "no digest": (good, {"digest": None}, 4400),
            "a length below zero": (good, {"len": -1}, 4400),
            "a length as text": (good, {"len": "120"}, 4400),
            "a length that is no number": (good, {"len": NAN}, 4400),
        }
        for name, (sig, tamper, code) in wrong.items():
            async with RawWorker(stack, key=first.key) as again:
                again.held = [lease["lease"]]
                await again.join()
                await again.send({"t": "result", "results": [{**entry, **tamper}], "sig": sig}, (right,))
                closed = await again.closed()
                assert closed.code == code, f"{name}: {closed}"
        async with RawWorker(stack) as thief:  # a frame that was seen, sent again under another key
            await thief.join()
            await thief.send({"t": "result", "results": [entry], "sig": good}, (right,))
            assert (await thief.closed()).code == 4401
    submitted = [e.event for e in of_job(await read_log(stack), job.id) if isinstance(e.event, ev.ResultSubmitted)]
    assert lease["lease"] not in {event.lease for event in submitted}
    async with RawWorker(stack, key=first.key) as again:
        again.held = [lease["lease"]]
        await again.join()
        assert await again.result(lease, right) in ("accepted", "late")
        await again.leave()
    await job.wait(timeout_s=90)
    for event in [e.event for e in of_job(await read_log(stack), job.id) if isinstance(e.event, ev.ResultSubmitted)]:
        assert len(bytes.fromhex(event.sig)) == 64, "every recorded result is signed"


async def test_uploads_that_do_not_fit(
    stack: Stack, mesh: AsyncMesh, http: httpx.AsyncClient, rng: np.random.Generator
) -> None:
    a, b = int8(rng, 260, 16), int8(rng, 16, 300)
    async with RawWorker(stack) as raw:
        await raw.join()
        job = await mesh.submit_matmul(a, b, redundancy=4, task_rows=260)
        lease = await raw.lease_of(job.id)
        right = await raw.compute(lease)
        path = f"/v1/worker/results/{lease['lease']}"
        task = (await mesh.tasks(job.id))["tasks"][0]
        other = next(name for name in task["leases"] if name != lease["lease"])
        async with raw.http() as worker:
            refusals = [
                (await http.put(path, content=right), 401),  # a requester's key is no session token
                (await worker.put(path, content=right, headers={"Authorization": "Bearer x"}), 401),
                (await worker.put(path, content=right, headers={"Authorization": raw.token}), 401),
                (await worker.put(f"/v1/worker/results/{other}", content=right), 409),
                (await worker.put("/v1/worker/results/none-0", content=right), 409),
                (await worker.put(path, content=right[:-4]), 422),
                (await worker.put(path, content=right + bytes(4)), 413),
                (await worker.get("/v1/worker/blobs/" + "0" * 64), 404),
                (await worker.get("/v1/worker/blobs/nothing"), 400),
                (await worker.get("/v1/jobs"), 401),  # nor is a session token a requester's key
            ]
            for i, (answer, status) in enumerate(refusals):
                assert answer.status_code == status, (i, answer.text)
                assert answer.headers["content-type"] == "application/problem+json", i
            assert await raw.result(lease, right) == "malformed"  # too large to be carried
            assert await raw.result(lease, b"", digest=bytes(32), len=len(right), s=None) == "malformed"
            answer = await worker.put(path, content=right)
            assert answer.status_code == 201 and answer.json()["bytes"] == len(right)
            done = {"digest": bytes.fromhex(answer.json()["digest"]), "len": len(right), "s": None}
            assert await raw.result(lease, b"", **{**done, "digest": bytes(32)}) == "malformed"
            assert await raw.result(lease, b"", **done) == "accepted"
        await job.wait(timeout_s=90)
        same(await job.result(), product(a, b))
        await raw.leave()


async def test_leases_come_back_from_a_worker_that_fails_or_leaves(
    stack: Stack, mesh: AsyncMesh, rng: np.random.Generator
) -> None:
    a, b = int8(rng, 40, 8), int8(rng, 8, 4)
    for way in ("failed", "leave"):
        async with RawWorker(stack) as raw:
            await raw.join()
            job = await mesh.submit_matmul(a, b, redundancy=3, task_rows=1)
            await raw.lease_of(job.id)
            if way == "failed":
                while not job.ended:
                    for name in list(raw.leases):
                        await raw.send({"t": "failed", "lease": name, "code": "oom", "message": "none left"})
                        del raw.leases[name]
                    await raw.send({"t": "heartbeat"})
                    await raw.receive("heartbeat")
                    await job.status()
            await raw.leave()
            await job.wait(timeout_s=90)
            same(await job.result(), product(a, b))
            assert job.last["frauds"] == []


async def test_no_lease_comes_before_the_tier(stack: Stack, mesh: AsyncMesh, rng: np.random.Generator) -> None:
    """Work waits for a fourth worker and is lent, or called back, the moment one has its tier: the tier comes first."""
    for i in range(12):
        job = await mesh.submit_matmul(int8(rng, 40, 8), int8(rng, 8, 4), redundancy=4, task_rows=1)
        async with RawWorker(stack) as raw:
            if i % 3 == 0:
                await asyncio.gather(raw.join(), job.cancel())
            else:
                await raw.join()
                await raw.lease_of(job.id)
                await job.cancel()
            await raw.leave()


async def test_cancelled_work_is_called_back(stack: Stack, mesh: AsyncMesh, rng: np.random.Generator) -> None:
    async with RawWorker(stack) as raw:
        await raw.join()
        job = await mesh.submit_matmul(int8(rng, 4, 8), int8(rng, 8, 4), redundancy=4, task_rows=4)
        lease = await raw.lease_of(job.id)
        right = await raw.compute(lease)
        assert (await job.cancel())["state"] == "cancelled"
        while lease["lease"] not in (await raw.receive("cancel"))["leases"]:
            pass
        assert await raw.result(lease, right) == "late"
        await raw.leave()


@pytest.mark.slow
async def test_too_many_frames(raw: RawWorker) -> None:
    await raw.join()
    nothing = frame({"t": "failed", "lease": "none-0", "code": "oom", "message": ""})
    for _ in range(400):
        for _ in range(500):
            await raw.raw(nothing)
        await asyncio.sleep(0)  # a send that finds room lets nothing else run: what the mesh says would never be read
        if raw.socket.close_code is not None:
            break
    assert (await raw.closed()).code == 4429
    assert raw.bye is None or raw.bye["retry_ms"] == 30_000
