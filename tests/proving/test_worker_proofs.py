"""The native worker's part in proofs: what it is asked, what it says when, and the files that it proves with."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from shardy_client.worker import proving
from shardy_client.worker.messages import Phase, ProtocolError, Prove
from shardy_client.worker.proving import Asked, File, Keys, ProveError, Proving, unpacked
from shardy_client.worker.state import PROOFS_KEPT_MAX, WorkerState
from shardy_common.proofs.parse import Proof
from shardy_common.proofs.signals import Circuit, Context
from shardy_common.wire import frame

ZKEY, R1CS = b"a proving key" * 40, b"the constraints" * 20
PACKED = {name: gzip.compress(data, mtime=0) for name, data in (("zkey", ZKEY), ("r1cs", R1CS))}
A, B = np.arange(-80, 80, dtype=np.int8).reshape(20, 8), np.arange(96, dtype=np.int8).reshape(12, 8)
PROOF = Proof((1, 2), ((3, 4), (5, 6)), (7, 8))


def file_map(name: str, data: bytes) -> dict[str, Any]:
    return {"d": blake3(PACKED[name]).hexdigest(), "l": len(PACKED[name]), "u": len(data)}


def asked(lease: str = "j-0-0-1-0", **change: Any) -> dict[str, Any]:
    """A frame for 20×12 in tiles of 8×8: three by two."""
    operand = {"o": 0, "c": 8}
    return {
        "t": "prove", "lease": lease, "task": "j-0-0-1", "job": "j", "deadline_ms": 60_000, "rows": 20, "cols": 12,
        "p": {
            "dtype": "int8", "k": 8,
            "a": {"d": blake3(A.tobytes()).hexdigest(), "l": 160, "r": 20, **operand},
            "b": {"d": blake3(B.tobytes()).hexdigest(), "l": 96, "r": 12, **operand},
        },
        "circuit": "v2-8x8x8", "version": "v1", "vk": b"\1" * 32, "root": b"\2" * 32, "nonce": b"\3" * 32,
        "zkey": file_map("zkey", ZKEY), "r1cs": file_map("r1cs", R1CS), "of": 6, "tiles": [1, 5], "trace": "",
        **change,
    }  # fmt: skip


@pytest.fixture
def state() -> WorkerState:
    state = WorkerState(b"\7" * 32, lambda _root: b"\0" * 64, "test")
    join(state)
    return state


def join(state: WorkerState) -> None:
    state.opened()
    state.phase = Phase.TIER
    state.received({"t": "tier", "tier": "x", "max_leases": 4, "token": "t"}, [], 0.0)
    assert sent(state) and state.phase is Phase.READY


def sent(state: WorkerState) -> list[tuple[dict[str, Any], list[bytes]]]:
    out = []
    while (data := state.next_frame()) is not None:
        header, segments = frame.decode(data)
        out.append((header, [bytes(segment) for segment in segments]))
    return out


def test_it_proves_once_and_sends_until_it_is_acknowledged(state: WorkerState) -> None:
    (prove,) = state.received(asked(), [], 0.0)
    assert isinstance(prove, Prove) and prove.asked.tiles == (1, 5) and prove.asked.terms.tiles == 6
    assert state.received(asked(), [], 0.0) == [], "it is being made"
    state.proved("j-0-0-1-0", b"p" * 512, 12.5, "wasm")
    (header, segments), *rest = sent(state)
    assert (header["t"], header["lease"], header["s"], segments, rest) == ("proof", "j-0-0-1-0", 0, [b"p" * 512], [])
    state.closed()
    join(state)
    assert state.received(asked(), [], 0.0) == [], "it was made before"
    assert [segments for _, segments in sent(state)] == [[b"p" * 512]]
    state.received({"t": "ack", "acks": [["j-0-0-1-0", "accepted"]]}, [], 0.0)
    assert isinstance(state.received(asked(), [], 0.0)[0], Prove), "and now it is forgotten"


def test_what_was_made_while_nobody_listened_waits_for_being_asked(state: WorkerState) -> None:
    state.received(asked(), [], 0.0)
    state.closed()
    state.proved("j-0-0-1-0", b"p" * 512, 1.0, "wasm")
    join(state)
    assert sent(state) == []
    state.received(asked(), [], 0.0)
    assert len(sent(state)) == 1


def test_a_failure_gives_the_lease_back(state: WorkerState) -> None:
    state.received(asked(), [], 0.0)
    state.prove_failed("j-0-0-1-0", "oom", "no room")
    ((header, _),) = sent(state)
    assert (header["t"], header["code"], header["message"]) == ("failed", "oom", "no room")
    assert isinstance(state.received(asked(), [], 0.0)[0], Prove)


def test_what_is_kept_is_bounded(state: WorkerState) -> None:
    for number in range(PROOFS_KEPT_MAX + 10):
        state.proved(f"l-{number}", b"p" * 256, 1.0, "wasm")
    assert len(state._proofs) == PROOFS_KEPT_MAX


@pytest.mark.parametrize(
    "change",
    [
        {"tiles": []},
        {"tiles": [5, 1]},
        {"tiles": [1, 1]},
        {"tiles": [6]},
        {"tiles": [-1]},
        {"tiles": list(range(6)) * 11},
        {"of": 7},
        {"rows": 21},
        {"circuit": "v3-8x8x8"},
        {"circuit": "v2-8x4x8"},
        {"vk": b"\1" * 31},
        {"nonce": "text"},
        {"zkey": {"d": "00", "l": 1, "u": 1}},
        {"zkey": {**file_map("zkey", ZKEY), "u": 1 << 40}},
        {"r1cs": {**file_map("r1cs", R1CS), "l": 0}},
        {"p": {"dtype": "float32"}},
        {"p": None},
    ],
)
def test_what_is_no_challenge_is_a_breach_of_the_protocol(state: WorkerState, change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        state.received(asked(**change), [], 0.0)


# -- files and provers -------------------------------------------------------------------------------------------------


class Made:
    """A prover that notes what it is asked; and the mesh's bytes, with what was fetched."""

    def __init__(self) -> None:
        self.opened: list[tuple[bytes, bytes]] = []
        self.contexts: list[Context] = []
        self.fetched: list[Any] = []
        self.closed = 0
        self.fails: Exception | None = None

    def make(self, zkey: bytes, r1cs: bytes) -> Made:
        self.opened.append((zkey, r1cs))
        return self

    def prove(self, circuit: Circuit, context: Context, a: bytes, b: bytes, c: bytes) -> tuple[Proof, list[int]]:
        if self.fails is not None:
            raise self.fails
        left, right = (np.frombuffer(x, np.int8).reshape(-1, context.k).astype(np.int32) for x in (a, b))
        assert c == (left @ right.T).astype("<i4").tobytes() and circuit.name == context.circuit
        self.contexts.append(context)
        return PROOF, []

    def cancel(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        self.closed += 1

    async def fetch(self, key: Any) -> bytes:
        self.fetched.append(key)
        digest, offset, length = key
        blobs = [*PACKED.values(), A.tobytes(), B.tobytes()]
        data = next(blob for blob in blobs if blake3(blob).hexdigest() == digest)
        return data[offset : offset + length]


async def test_each_tile_is_proved_from_its_rows_and_the_key_is_kept(tmp_path: Path) -> None:
    made = Made()
    work = Proving(tmp_path / "keys", made.make)
    one = Asked.of(asked(), "12D3KooWGRUfH5eCWqx9m5wSZgY6sKvzDcBcBBzd9QaiwLkF4e4n")
    proofs, _ = await work.prove(one, made.fetch)
    assert proofs == PROOF.wire() * 2 and made.opened == [(ZKEY, R1CS)]
    first, last = made.contexts
    assert (first.rows, first.k, first.cols) == (8, 8, 4) and (last.rows, last.cols) == (4, 4)
    assert first.a == blake3(A[:8].tobytes()).digest() and first.b == blake3(B[8:].tobytes()).digest()
    assert first.tile == b"\2" * 32 + (1).to_bytes(8, "little") and last.tile[32:] == (5).to_bytes(8, "little")
    await work.prove(one, made.fetch)
    assert len(made.opened) == 1, "the prover is kept"
    await work.aclose()
    assert made.closed == 1

    again = Made()
    later = Proving(tmp_path / "keys", again.make)
    await later.prove(one, again.fetch)
    assert again.opened == [(ZKEY, R1CS)] and all(length <= 160 for _, _, length in again.fetched), "from the folder"
    await later.aclose()


@pytest.mark.parametrize("error, code", [(ValueError("it is not satisfied"), "internal"), (MemoryError(), "oom")])
async def test_why_it_cannot_be_proved_is_told(tmp_path: Path, error: Exception, code: str) -> None:
    made = Made()
    made.fails = error
    work = Proving(tmp_path / "keys", made.make)
    with pytest.raises(ProveError) as caught:
        await work.prove(Asked.of(asked(), "12D3KooWGRUfH5eCWqx9m5wSZgY6sKvzDcBcBBzd9QaiwLkF4e4n"), made.fetch)
    assert caught.value.code == code
    await work.aclose()


async def test_one_proof_at_a_time(tmp_path: Path) -> None:
    made, running, most = Made(), 0, 0
    one = Asked.of(asked(), "12D3KooWGRUfH5eCWqx9m5wSZgY6sKvzDcBcBBzd9QaiwLkF4e4n")

    async def fetch(key: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await made.fetch(key)

    work = Proving(tmp_path / "keys", made.make)
    await asyncio.gather(*(work.prove(one, fetch) for _ in range(4)))
    assert most == 1
    await work.aclose()


def file_of(data: bytes, unpacked_bytes: int) -> File:
    return File(blake3(data).hexdigest(), len(data), unpacked_bytes)


def test_a_file_unpacks_to_what_it_says_and_never_to_more() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    for packed, size in ((bomb, 1_000), (PACKED["zkey"], len(ZKEY) + 1), (b"no gzip", 7), (PACKED["zkey"][:-9], 520)):
        with pytest.raises(ProveError):
            unpacked(file_of(packed, size), packed)
    assert unpacked(file_of(PACKED["zkey"], len(ZKEY)), PACKED["zkey"]) == ZKEY


def test_a_damaged_file_is_thrown_away_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(tmp_path / "keys")
    file = file_of(PACKED["zkey"], len(ZKEY))
    assert keys.find(file) is None
    keys.keep(file, PACKED["zkey"])
    assert keys.find(file) == PACKED["zkey"]
    (tmp_path / "keys" / file.digest).write_bytes(b"damaged")
    assert keys.find(file) is None and not (tmp_path / "keys" / file.digest).exists()
    monkeypatch.setattr(proving, "KEPT_BYTES_MAX", 5_000)
    for number in range(6):
        data = bytes([number]) * 2_000
        keys.keep(file_of(data, 1), data)
    held = list((tmp_path / "keys").iterdir())
    assert sum(path.stat().st_size for path in held) <= 5_000 and file_of(bytes([5]) * 2_000, 1).digest in {
        path.name for path in held
    }
