"""Identifiers: valid subject tokens, sortable jobs, peer ids that libp2p reads alike."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardy_common import ids
from shardy_common.wire import subjects

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# public key and peer id from the libp2p peer-id specification's Ed25519 test vector
SPEC_KEY = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
SPEC_PEER_ID = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


def base58_by_long_division(data: bytes) -> str:
    """The textbook method, digit by digit: nothing in common with shardy_common.ids but the alphabet."""
    digits: list[int] = []
    for byte in data:
        carry = byte
        for i in range(len(digits)):
            carry += digits[i] << 8
            digits[i] = carry % 58
            carry //= 58
        while carry:
            digits.append(carry % 58)
            carry //= 58
    zeros = next((i for i, byte in enumerate(data) if byte), len(data))
    return "1" * zeros + "".join(ALPHABET[d] for d in reversed(digits))


def peer_id_by_parts(key: bytes) -> str:
    """Protobuf PublicKey {1: varint Ed25519 = 1, 2: bytes}, in a multihash: identity (0), length."""
    message = bytes([1 << 3 | 0, 1, 2 << 3 | 2, len(key)]) + key
    return base58_by_long_division(bytes([0, len(message)]) + message)


@given(st.binary(min_size=32, max_size=32))
def test_worker_id_is_the_libp2p_peer_id(key: bytes) -> None:
    worker = ids.worker_id(key)
    assert worker == peer_id_by_parts(key)
    assert worker.startswith("12D3KooW") and ids.is_token(worker)


def test_worker_id_of_a_published_vector() -> None:
    assert ids.worker_id(bytes.fromhex(SPEC_KEY)) == SPEC_PEER_ID == peer_id_by_parts(bytes.fromhex(SPEC_KEY))


@given(st.integers(0, 2**44), st.integers(0, 2**44), st.binary(min_size=5, max_size=5))
def test_job_ids_sort_by_time_and_are_tokens(earlier: int, later: int, entropy: bytes) -> None:
    first, second = ids.new_job_id(earlier, entropy), ids.new_job_id(later, entropy)
    assert ids.is_token(first) and len(first) == 18 and "-" not in first
    assert (first < second) == (earlier < later)


@given(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(0, 2**24 - 1), st.integers(0, 99))
def test_task_and_lease_ids_lead_back(col0: int, row0: int, tag: int, attempt: int) -> None:
    job = ids.new_job_id(5, b"abcde")
    task = ids.task_id(job, col0, row0, tag)
    lease = ids.lease_id(task, attempt)
    assert ids.is_token(lease) and lease.rpartition("-")[0] == task and task.split("-")[0] == job


@pytest.mark.parametrize("text", ["", "a.b", "a*", "a>", "a b", "a\n", "ä", "x" * 129])
def test_what_is_no_token(text: str) -> None:
    assert not ids.is_token(text)


def test_digests() -> None:
    good = hashlib.sha256(b"").hexdigest()
    assert ids.is_digest(good)
    assert not any(ids.is_digest(bad) for bad in (good.upper(), good[:-1], good + "0", good + "\n", "g" * 64, ""))


def test_subjects_are_built_of_tokens() -> None:
    assert subjects.subject("task.created", "t1") == "task.created.t1"
    assert subjects.of_kind("task.created") == "task.created.*"
    assert subjects.of_entity("task", "t1") == "task.*.t1"
    assert all(s.count(".") == 1 and s.endswith(".>") for s in subjects.STREAM_SUBJECTS)
