"""What a prover can try, line by line: where each is refused, and those that are tried here, at a real mesh's socket.

Whatever comes in place of a proof, the task is not verified by it, a right result is nobody's fraud, and nothing counts
twice.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from blake3 import blake3
from meshkit import CIRCUIT, api, client, int8, of_job, registered, until
from numpy.typing import NDArray
from proofkit import Files, circuit_files
from rawsocket import Closed, RawWorker
from wrong_points import off_curve, outside_group, rerandomised

from bench.faults.logs import read_log
from shardy_client import AsyncMesh, Job
from shardy_common.proofs.parse import Q, proof_of_wire
from shardy_common.proofs.prover import Prover
from shardy_common.proofs.signals import Circuit, Context
from shardy_common.stack import Stack
from shardy_common.wire import events as ev

pytestmark = pytest.mark.slow
SIZE = Circuit(8, 8, 8)
HERE = Path(__file__).parent
LINES = {
    "C off by one anywhere": "../circuits/test_forgeries.py::test_off_by_one_anywhere",
    "C off by one, at a mesh": "test_proof_jobs.py::test_whoever_lies_is_found_by_its_proof_and_named_by_the_bytes",
    "swapped operands": "../circuits/test_forgeries.py::test_swapped_operands",
    "another task, worker, nonce, seed or version": "test_dishonest_provers.py::test_a_proof_of_something_else",
    "another length": "../circuits/test_forgeries.py::test_another_length_or_context_is_public",
    "stolen from another worker": "test_dishonest_provers.py::test_a_stolen_proof",
    "a replay": "test_dishonest_provers.py::test_a_proof_counts_once_however_it_is_spelt",
    "a re-randomised proof": "test_dishonest_provers.py::test_a_proof_counts_once_however_it_is_spelt",
    "publics of r or more": "../proofs/test_verifier.py::test_signals",
    "publics of r or more, at the module": "../proofs/test_verifier.py::test_the_module_itself_refuses_aliases",
    "z that is not 1, decimals that are not canonical": "../proofs/test_parse.py::test_numbers",
    "points off the curve or outside the subgroup": "../proofs/test_verifier.py::test_every_change_is_refused",
    "the same, at a mesh": "test_dishonest_provers.py::test_bytes_that_are_no_proof",
    "truncated": "../proofs/test_parse.py::test_every_cut_is_refused",
    "huge, nested or not UTF-8": "../proofs/test_parse.py::test_text",
    "nested behind a string": "../proofs/test_parse.py::test_no_string_hides_depth",
    "a million mutated inputs": "../proofs/test_parse.py::test_a_million_mutations",
    "a wrong key": "test_dishonest_provers.py::test_a_proof_under_another_key",
    "a development key in production": "../verifiers/test_registry_rules.py::"
    "test_a_development_key_without_development",
    "one that was registered all the same": "../proving/test_proving_rules.py::"
    "test_a_development_key_counts_in_development_only",
}


@pytest.mark.parametrize("line", LINES)
async def test_every_line_has_its_test(line: str) -> None:
    file, _, name = LINES[line].partition("::")
    tests = {node.name for node in ast.parse((HERE / file).read_text()).body if hasattr(node, "name")}
    assert name in tests, f"{line}: {LINES[line]} is gone"


@dataclass
class Place:
    stack: Stack
    right: Prover  # of the active version
    other: Prover  # of another version's key


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("provers")
    files: list[Files] = [circuit_files(8, 8, 8, folder / seed, seed=seed) for seed in ("01", "02")]
    env = {"SHARDY_DEVELOPMENT": "true", "SHARDY_CANARY_EVERY": "0"}
    async with Stack(folder / "mesh", allow_same_address=True, env=env) as stack:
        for version, one in zip(("v1", "v2"), files, strict=True):
            await registered(stack, version, one)
        async with AsyncMesh(stack.url, stack.operator_key) as operator:
            await operator.rotate_verifier(CIRCUIT, "v1", 600)
        right, other = (Prover(one.zkey, one.r1cs.read_bytes()) for one in files)
        with right, other:
            yield Place(stack, right, other)


@dataclass
class Asked:
    """What the mesh asked of a raw worker: a right result stands in the log, and one tile of it is to be proved."""

    raw: RawWorker
    job: Job
    frame: dict[str, Any]
    a: NDArray[np.int8]
    b: NDArray[np.int8]  # as stored, n×k
    prover: Prover

    @property
    def context(self) -> Context:
        """By protocol §8."""
        a, b, c = (blake3(data).digest() for data in (self.a.tobytes(), self.b.tobytes(), self.c))
        frame = self.frame
        names = frame["task"], self.raw.public, frame["nonce"], frame["circuit"], frame["version"], frame["vk"]
        return Context(*names, 8, 8, 8, b"", a, b, c)

    @property
    def c(self) -> bytes:
        return (self.a.astype(np.int32) @ self.b.astype(np.int32).T).astype("<i4").tobytes()

    def proof(self, prover: Prover | None = None, **changed: Any) -> bytes:
        """A proof that holds, of a context with something else in it."""
        context = replace(self.context, **changed)
        made, _ = (prover or self.prover).prove(SIZE, context, self.a.tobytes(), self.b.tobytes(), self.c)
        return made.wire()

    async def hand_in(self, data: bytes, **tamper: Any) -> str:
        header = {"t": "proof", "lease": self.frame["lease"], "s": 0, "ms": 1.0, "backend": "wasm", **tamper}
        await self.raw.send(header, (data,))
        ((lease, outcome),) = (await self.raw.receive("ack"))["acks"]
        assert lease == header["lease"]
        return str(outcome)


async def asked(place: Place, raw: RawWorker, rng: np.random.Generator, of: Asked | None = None) -> Asked:
    """A job of one task, computed rightly by `raw`, up to the challenge. of: with the operands of another one."""
    a, b = (of.a, of.b) if of else (int8(rng, 8, 8), int8(rng, 8, 8))
    async with client(place.stack) as requester:
        job = await requester.submit_matmul(a, np.ascontiguousarray(b.T), policy="proof", proof_tiles=1)
    lease = await raw.lease_of(job.id)
    assert await raw.result(lease, await raw.compute(lease)) == "accepted"
    frame = await raw.receive("prove")
    assert frame["lease"] == lease["lease"] and frame["tiles"] == [0] and frame["of"] == 1
    return Asked(raw, job, frame, a, b, place.right)


async def outcome(place: Place, found: Asked, *, rejected: bool) -> list[Any]:
    """The log's words about the task, once they are said; the job is cancelled where it has no verdict."""

    async def told() -> list[Any]:
        events = [recorded.event for recorded in of_job(await read_log(place.stack), found.job.id)]
        ends = ev.ProofRejected if rejected else ev.TaskVerified
        return events if any(isinstance(event, ends) for event in events) else []

    await until(told, "the proof is judged")
    async with client(place.stack) as requester:
        if rejected:
            await (await requester.job(found.job.id)).cancel()
        else:
            await (await requester.job(found.job.id)).wait(timeout_s=60)
    return await told()


async def refused(place: Place, found: Asked, data: bytes) -> None:
    assert await found.hand_in(data) == "accepted"  # taken, and judged by who has the keys
    events = await outcome(place, found, rejected=True)
    (rejection,) = [event for event in events if isinstance(event, ev.ProofRejected)]
    assert rejection.cause == "wrong" and rejection.detail
    assert not any(isinstance(event, (ev.ProofVerified, ev.TaskVerified, ev.FraudDetected)) for event in events)


SOMETHING_ELSE: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "task": lambda found: {"task": found.frame["task"] + "1"},
    "worker": lambda found: {"worker": bytes(32)},
    "lease": lambda found: {"nonce": bytes(32)},
    "seed": lambda found: {"seed": b"1"},
    "version": lambda found: {"vk_version": "v2"},
    "key": lambda found: {"vk_hash": bytes(32)},
    "result": lambda found: {"c": bytes(32)},
    "operand": lambda found: {"a": found.context.b, "b": found.context.a},
    "tile": lambda found: {"tile": found.frame["root"] + bytes(8)},
}


@pytest.mark.parametrize("what", SOMETHING_ELSE)
async def test_a_proof_of_something_else(place: Place, rng: np.random.Generator, what: str) -> None:
    async with RawWorker(place.stack, what) as raw:
        await raw.join(proves_mib=512)
        found = await asked(place, raw, rng)
        await refused(place, found, found.proof(**SOMETHING_ELSE[what](found)))


async def test_swapped_operands(place: Place, rng: np.random.Generator) -> None:
    """A proof of B·Aᵀ, whose bytes are others."""
    async with RawWorker(place.stack, "swapper") as raw:
        await raw.join(proves_mib=512)
        found = await asked(place, raw, rng)
        swapped = replace(found, a=found.b, b=found.a)
        await refused(place, found, swapped.proof())


async def test_a_proof_under_another_key(place: Place, rng: np.random.Generator) -> None:
    async with RawWorker(place.stack, "keyed") as raw:
        await raw.join(proves_mib=512)
        found = await asked(place, raw, rng)
        await refused(place, found, found.proof(place.other))


async def test_a_stolen_proof(place: Place, rng: np.random.Generator) -> None:
    """One that was right for another worker, and for the same product; and the worker's own of an earlier task."""
    async with RawWorker(place.stack, "victim") as victim:
        await victim.join(proves_mib=512)
        first = await asked(place, victim, rng)
        good = first.proof()
        assert await first.hand_in(good) == "accepted"
        assert any(isinstance(event, ev.ProofVerified) for event in await outcome(place, first, rejected=False))
        again = await asked(place, victim, rng, first)
        await refused(place, again, good)
    async with RawWorker(place.stack, "thief") as thief:
        await thief.join(proves_mib=512)
        await refused(place, await asked(place, thief, rng, first), good)


NO_PROOFS: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda good: bytes(256),
    "coordinates out of range": lambda good: b"\xff" * 256,
    "A off its curve": lambda good: replace(proof_of_wire(good), a=off_curve(proof_of_wire(good).a)).wire(),
    "B outside its group": lambda good: replace(proof_of_wire(good), b=outside_group()).wire(),
    "A with another name": lambda good: (int.from_bytes(good[:32], "big") + Q).to_bytes(32, "big") + good[32:],
    "noise": lambda good: blake3(good).digest(256),
}


@pytest.mark.parametrize("what", NO_PROOFS)
async def test_bytes_that_are_no_proof(place: Place, rng: np.random.Generator, what: str) -> None:
    async with RawWorker(place.stack, "noise") as raw:
        await raw.join(proves_mib=512)
        found = await asked(place, raw, rng)
        await refused(place, found, NO_PROOFS[what](found.proof()))


async def test_frames_that_answer_no_challenge(place: Place, rng: np.random.Generator) -> None:
    """They are told what is wrong, and leave no trace in the log; a proof that holds is welcome afterwards."""
    async with RawWorker(place.stack, "clumsy") as raw:
        await raw.join(proves_mib=512)
        found = await asked(place, raw, rng)
        good = found.proof()
        for data in (b"", good[:-1], good + b"\0", good * 2, b'{"pi_a":' + b"[" * 5000):
            assert await found.hand_in(data) == "malformed"
        assert await found.hand_in(good, lease="j-0-0-9") == "unknown"
        assert await found.hand_in(good) == "accepted"
        events = await outcome(place, found, rejected=False)
        assert len([event for event in events if isinstance(event, ev.ProofSubmitted)]) == 1
    for header in ({"s": 1}, {"s": -1}, {"s": True}, {"lease": 7}):
        async with RawWorker(place.stack, "clumsier") as raw:
            await raw.join(proves_mib=512)
            await raw.send({"t": "proof", "lease": "j-0-0-1", "s": 0, "ms": 1.0, "backend": "", **header}, (good,))
            closed = await raw.closed()
            assert isinstance(closed, Closed) and closed.code == 4400 and "segment s" in closed.reason


async def test_a_proof_counts_once_however_it_is_spelt(place: Place, rng: np.random.Generator) -> None:
    """Again, and with other bytes that prove the same: it comes late, and credit is earned once."""
    async with RawWorker(place.stack, "twice") as raw:
        await raw.join(proves_mib=512)
        found = await asked(place, raw, rng)
        good = found.proof()
        other = rerandomised(proof_of_wire(good)).wire()
        assert other != good
        assert await found.hand_in(good) == "accepted"
        assert await found.hand_in(other) == "late"
        events = await outcome(place, found, rejected=False)
        for data in (good, other):
            assert await found.hand_in(data) == "late"
        async with api(place.stack, place.stack.operator_key) as http:
            (entry,) = (await http.get("/v1/credit/ledger", params={"job": found.job.id})).json()["entries"]
    events = [recorded.event for recorded in of_job(await read_log(place.stack), found.job.id)]
    for kind in (ev.ProofSubmitted, ev.ProofVerified, ev.TaskVerified):
        assert len([event for event in events if isinstance(event, kind)]) == 1, kind
    assert entry["ops"] in (2 * 8 * 8 * 8, str(2 * 8 * 8 * 8)), entry
