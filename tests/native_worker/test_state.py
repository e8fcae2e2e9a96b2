"""The protocol as a state machine, without sockets: tables, and random stories that keep every invariant."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_gateway import lease, operand
from hypothesis import given, settings
from hypothesis import strategies as st

from shardy_client.worker import state as s
from shardy_client.worker.cache import OperandCache
from shardy_client.worker.leases import FETCHES_MAX
from shardy_client.worker.messages import Credit, Fetch
from shardy_common.wire import frame

K = 4
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
SESSION = {"tier": "t", "max_leases": 64, "token": "tok", "session": "x", "heartbeat_s": 15}


def sign(root: bytes) -> bytes:
    """As an identity does it."""
    return KEY.sign(b"shardy-results-v2\x00" + root)


def sent(state: s.WorkerState) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Everything the state wants to send, decoded; every frame of results is signed."""
    frames = []
    while (data := state.next_frame()) is not None:
        header, segments = frame.decode(data)
        if header["t"] == "result":
            KEY.public_key().verify(header["sig"], oracle.signed(header["results"]))
        frames.append((header, [bytes(x) for x in segments]))
    return frames


def join(state: s.WorkerState) -> list[s.Instruction]:
    state.opened()
    assert sent(state)[0][0]["t"] == "hello"
    challenge = {"t": "challenge", "version": 2, "nonce": bytes(32), "session": "x", "mesh": "m"}
    (sign,) = state.received(challenge, [], 0)
    assert isinstance(sign, s.Sign)
    state.authenticated(bytes(64))
    probe = {"t": "probe", "seed": bytes(32), "m": 1, "n": 1, "k": 1, "rounds": 1, "memory_mib_max": 1}
    (run,) = state.received(probe, [], 0)
    assert isinstance(run, s.RunProbe)
    state.probed({"digest": bytes(32)})
    assert [header["t"] for header, _ in sent(state)] == ["auth", "probed"]
    return state.received({"t": "tier", **SESSION}, [], 0)


def fresh(capacity: int = 1 << 20) -> s.WorkerState:
    state = s.WorkerState(PUBLIC, sign, "test", capacity)
    joined = join(state)
    assert isinstance(joined[0], s.Joined) and state.phase is s.Phase.READY
    return state


def work(name: str, a: str = "a" * 64, b: str = "b" * 64, rows: int = 1, **more: Any) -> dict[str, Any]:
    p = {"dtype": "int8", "k": K, "a": operand(a, 0, rows * K, rows, K), "b": operand(b, 0, 2 * K, 2, K)}
    return lease(name, p, **more)


def result(taken: s.Work, size: int = 8) -> s.Result:
    return s.Result(taken, bytes(size), bytes(32), 1.0, "wasm", {})


def give(state: s.WorkerState, *leases: dict[str, Any], carried: tuple[str, ...] = (), now: float = 0) -> list[Fetch]:
    carry = [[digest, 0, K if digest[0] == "a" else 2 * K, i] for i, digest in enumerate(carried)]
    header = {"t": "lease", "leases": list(leases), "carry": carry}
    return state.received(header, [memoryview(bytes(c[2])) for c in carry], now)  # type: ignore[return-value]


BOTH = ("a" * 64, "b" * 64)


def test_carried_operands_make_a_lease_ready() -> None:
    state = fresh()
    assert give(state, work("l1"), carried=BOTH) == []
    (taken,) = state.take(1e9, 9, 0)
    assert taken.data == [bytes(K), bytes(2 * K)] and not state.has_ready
    state.computed(taken, result(taken))
    ((header, segments),) = sent(state)
    assert header["results"][0]["lease"] == "l1" and header["results"][0]["s"] == 0 and segments == [bytes(8)]
    state.received({"t": "ack", "acks": [["l1", "accepted"]]}, [], 0)
    assert state.active == 0 and state.counters.outcomes["accepted"] == 1
    state.check()


def test_missing_operands_are_fetched_once_for_all_leases() -> None:
    state = fresh()
    fetches = give(state, work("l1"), work("l2"))
    assert fetches == [Fetch(("a" * 64, 0, K)), Fetch(("b" * 64, 0, 2 * K))]
    assert give(state, work("l3")) == []
    state.fetched(fetches[0].key, bytes(K))
    assert not state.has_ready
    state.fetched(fetches[1].key, bytes(2 * K))
    assert [w.lease for w in state.take(1e9, 9, 0)] == ["l1", "l2", "l3"]
    state.check()


def test_a_known_lease_id_is_the_same_lease() -> None:
    state = fresh()
    give(state, work("l1"), carried=BOTH)
    give(state, work("l1"))
    (taken,) = state.take(1e9, 9, 0)
    give(state, work("l1"))
    state.computed(taken, result(taken))
    give(state, work("l1"))
    assert not state.has_ready and state.active == 1
    state.check()


def test_ready_leases_go_in_the_order_received() -> None:
    state = fresh()
    (first, *_) = give(state, work("slow", a="c" * 64), carried=())
    give(state, work("quick"), carried=BOTH)
    assert [w.lease for w in state.take(1e9, 9, 0)] == ["quick"]
    give(state, work("later"))
    state.fetched(first.key, bytes(K))
    assert [w.lease for w in state.take(1e9, 9, 0)] == ["slow", "later"]
    state.check()


def test_batches_are_bounded_by_operations_and_count() -> None:
    state = fresh()
    give(state, *(work(f"l{i}") for i in range(6)), carried=BOTH)
    ops = 2 * 1 * 2 * K
    assert len(state.take(3 * ops, 9, 0)) == 3
    assert len(state.take(1e9, 2, 0)) == 2
    assert len(state.take(0, 9, 0)) == 1, "one lease is taken however large it is"


def test_expired_leases_are_not_started() -> None:
    state = fresh()
    give(state, work("old", deadline_ms=1000), work("new"), carried=BOTH)
    assert [w.lease for w in state.take(1e9, 9, 2.0)] == ["new"]
    assert state.counters.expired == 1
    state.check()


def test_cancel_drops_what_was_not_started() -> None:
    state = fresh()
    give(state, work("run"), carried=BOTH)
    (running,) = state.take(1e9, 9, 0)
    give(state, work("ready"), work("blocked", a="c" * 64))
    state.received({"t": "cancel", "leases": ["run", "ready", "blocked", "unknown"]}, [], 0)
    assert state.active == 1 and not state.has_ready
    state.computed(running, result(running))
    assert state.active == 1
    state.check()


def test_a_failed_fetch_gives_its_leases_back() -> None:
    state = fresh()
    fetches = give(state, work("l1"), work("l2", a="c" * 64))
    state.fetch_failed(fetches[0].key, "404")
    state.fetched(fetches[1].key, bytes(2 * K))
    ((header, _),) = sent(state)
    assert header == {"t": "failed", "lease": "l1", "code": "fetch", "message": "404"}
    assert state.active == 1
    state.check()


def test_bytes_of_another_length_are_a_failed_fetch() -> None:
    state = fresh()
    fetches = give(state, work("l1"))
    state.fetched(fetches[0].key, bytes(K + 1))
    assert sent(state)[0][0]["code"] == "fetch"
    state.check()


def test_large_results_are_uploaded_before_they_are_named() -> None:
    state = fresh()
    give(state, work("big"), carried=BOTH)
    (taken,) = state.take(1e9, 9, 0)
    assert state.computed(taken, result(taken, s.CARRY_BYTES_MAX + 1)) == [s.Upload("big")]
    assert sent(state) == [] and len(state.held_data("big") or b"") == s.CARRY_BYTES_MAX + 1
    state.uploaded("big")
    ((header, segments),) = sent(state)
    assert header["results"][0]["s"] is None and segments == []
    state.check()


def test_unacknowledged_results_are_offered_again_in_the_next_session() -> None:
    state = fresh()
    give(state, work("small"), work("big"), carried=BOTH)
    small, big = state.take(1e9, 9, 0)
    state.computed(small, result(small))
    state.computed(big, result(big, s.CARRY_BYTES_MAX + 1))
    state.uploaded("big")
    assert len(sent(state)[0][0]["results"]) == 2
    state.closed()
    assert state.next_frame() is None
    state.opened()
    assert sorted(sent(state)[0][0]["held"]) == ["big", "small"]
    state.closed()
    assert s.Upload("big") in join(state)
    assert [r["lease"] for r in sent(state)[0][0]["results"]] == ["small"]
    state.check()


def test_results_made_between_sessions_wait_for_the_tier() -> None:
    state = fresh()
    give(state, work("l1"), work("l2"), carried=BOTH)
    first, second = state.take(1e9, 9, 0)
    state.closed()
    state.computed(first, result(first))
    state.compute_failed(second, "oom", "no room")
    assert state.next_frame() is None
    join(state)
    assert [header["t"] for header, _ in sent(state)] == ["failed", "result"]


def test_a_signature_answers_for_its_frame_alone() -> None:
    state = fresh()
    give(state, *(work(f"l{i}") for i in range(3)), carried=BOTH)
    for taken in state.take(1e9, 9, 0):
        state.computed(taken, result(taken))
    ((header, _),) = sent(state)
    first, second, third = header["results"]
    changed = [
        [first, second],
        [second, first, third],
        [first, second, third, third],
        [first, second, {**third, "digest": b"\x01" + bytes(31)}],
        [first, second, {**third, "len": 9}],
        [first, second, {**third, "lease": "l3"}],
    ]
    for results in changed:
        with pytest.raises(InvalidSignature):
            KEY.public_key().verify(header["sig"], oracle.signed(results))


def test_a_result_sent_again_is_signed_anew() -> None:
    state = fresh()
    give(state, *(work(f"l{i}") for i in range(3)), carried=BOTH)
    for taken in state.take(1e9, 9, 0):
        state.computed(taken, result(taken))
    ((before, _),) = sent(state)
    state.received({"t": "ack", "acks": [["l1", "accepted"]]}, [], 0)
    state.closed()
    join(state)
    ((after, _),) = sent(state)
    assert [r["lease"] for r in after["results"]] == ["l0", "l2"] and after["sig"] != before["sig"]


def test_the_mesh_says_what_it_verified() -> None:
    state = fresh()
    state.received({"t": "heartbeat"}, [], 0)
    assert state.credit is None
    state.received({"t": "heartbeat", "credit": {"tasks": 3, "ops": 2**60}}, [], 0)
    assert state.credit == Credit(3, 2**60)
    state.received({"t": "heartbeat"}, [], 0)
    assert state.credit == Credit(3, 2**60), "an answer without it takes nothing away"


def test_frames_of_results_keep_the_limits() -> None:
    state = fresh()
    count = s.RESULTS_PER_FRAME_MAX + 10
    give(state, *(work(f"l{i}") for i in range(count)), carried=BOTH)
    for taken in state.take(1e12, count, 0):
        state.computed(taken, result(taken))
    assert [len(header["results"]) for header, _ in sent(state)] == [s.RESULTS_PER_FRAME_MAX, 10]
    give(state, *(work(f"m{i}") for i in range(100)))
    for taken in state.take(1e12, 100, 0):
        state.computed(taken, result(taken, s.CARRY_BYTES_MAX))
    frames = sent(state)
    assert len(frames) >= 3 and sum(len(header["results"]) for header, _ in frames) == 100
    state.check()


def test_leaving_drops_what_waits() -> None:
    state = fresh()
    give(state, work("l1"), work("l2", a="c" * 64), carried=BOTH)
    state.leave()
    assert [header["t"] for header, _ in sent(state)] == ["leave"] and state.active == 0
    state.check()


@pytest.mark.parametrize(
    "header",
    [
        {"t": "surprise"},
        {"t": 5},
        {},
        {"t": "tier", **SESSION},
        {"t": "lease"},
        {"t": "lease", "leases": [{}]},
        {"t": "lease", "leases": [], "carry": [["a" * 64, 0, 4, 7]]},
        {"t": "lease", "leases": [], "carry": [["a" * 64, 0, 4]]},
        {"t": "ack", "acks": [["x"]]},
        {"t": "cancel", "leases": 7},
        {"t": "heartbeat", "credit": 7},
        {"t": "heartbeat", "credit": {"tasks": 1}},
    ],
)
def test_malformed_frames_are_protocol_errors(header: dict[str, Any]) -> None:
    with pytest.raises(s.ProtocolError):
        fresh().received(header, [], 0)


def test_leases_before_the_tier_are_protocol_errors() -> None:
    state = s.WorkerState(PUBLIC, sign, "test")
    state.opened()
    with pytest.raises(s.ProtocolError, match="challenge"):
        give(state, work("l1"))


def test_prefetch_stays_inside_the_cache() -> None:
    state = s.WorkerState(PUBLIC, sign, "test", 10 * K)
    join(state)
    keys = [c * 64 for c in "cdefgh"]
    fetches = give(state, *(work(f"l{i}", a=key, rows=4) for i, key in enumerate(keys)), carried=("b" * 64,))
    assert len(fetches) == 2, "two operands of 4·K fit beside B's 2·K"
    state.fetched(fetches[0].key, bytes(4 * K))
    (taken,) = state.take(1e9, 1, 0)
    state.computed(taken, result(taken))
    assert len(state.progressed()) == 1, "room came back"
    state.check()


def test_an_operand_larger_than_the_cache_is_fetched_alone() -> None:
    state = s.WorkerState(PUBLIC, sign, "test", K)
    join(state)
    fetches = give(state, work("l1", rows=8))
    assert len(fetches) == 1
    fetches += state.fetched(fetches[0].key, bytes(fetches[0].key[2]))  # type: ignore[arg-type]
    assert len(fetches) == 2
    state.fetched(fetches[1].key, bytes(fetches[1].key[2]))
    assert state.has_ready
    state.check()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.integers(0, 15), st.integers(0, 3), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("fetch"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.just("done"), st.integers(0, 5), st.sampled_from(["small", "large", "fail"])),
        st.tuples(st.just("upload"), st.booleans()),
        st.tuples(st.just("ack"), st.integers(0, 15)),
        st.tuples(st.just("cancel"), st.integers(0, 15)),
        st.tuples(st.just("reconnect")),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.integers(1, 60))
def test_any_story_keeps_the_invariants(events: list[Any], capacity: int) -> None:
    """Every lease is in one place, every pin has an owner, and each lease given is answered, dropped or still here."""
    state = s.WorkerState(PUBLIC, sign, "test", capacity)
    pending = [i for i in join(state) if isinstance(i, Fetch)]
    running: list[s.Work] = []
    uploads: list[str] = []

    def note(instructions: list[Any]) -> None:
        pending.extend(i for i in instructions if isinstance(i, Fetch))
        uploads.extend(i.lease for i in instructions if isinstance(i, s.Upload))

    for event in events:
        match event:
            case ("give", n, a, b, carry):
                digest = (chr(ord("a") + a) * 64, chr(ord("p") + b) * 64)
                data = ((digest[0], K), (digest[1], 2 * K)) if carry else ()
                header = {
                    "t": "lease",
                    "leases": [work(f"l{n}", digest[0], digest[1])],
                    "carry": [[d, 0, size, i] for i, (d, size) in enumerate(data)],
                }
                note(state.received(header, [memoryview(bytes(size)) for _, size in data], 0))
            case ("fetch", i, ok) if pending:
                key = pending.pop(i % len(pending)).key
                note(state.fetched(key, bytes(key[2])) if ok else state.fetch_failed(key, "x"))
            case ("take", n):
                running += state.take(1e9, n, 0)
            case ("done", i, how) if running:
                taken = running.pop(i % len(running))
                if how == "fail":
                    state.compute_failed(taken, "internal", "x")
                else:
                    note(state.computed(taken, result(taken, 8 if how == "small" else s.CARRY_BYTES_MAX + 1)))
                note(state.progressed())
            case ("upload", ok) if uploads:
                state.uploaded(uploads.pop(0)) if ok else state.upload_failed(uploads.pop(0), "internal", "x")
            case ("ack", n):
                state.received({"t": "ack", "acks": [[f"l{n}", "accepted"]]}, [], 0)
            case ("cancel", n):
                note(state.received({"t": "cancel", "leases": [f"l{n}"]}, [], 0))
            case ("reconnect",):
                state.closed()
                pending.clear()
                uploads.clear()
                note(join(state))
            case _:
                continue
        sent(state)
        state.check()
    assert len(pending) <= FETCHES_MAX
    # Nothing is stuck: with every fetch answered, whatever is not running or held becomes ready.
    while pending:
        key = pending.pop().key
        note(state.fetched(key, bytes(key[2])))
        for taken in [*running, *state.take(1e9, 99, 0)]:
            note(state.computed(taken, result(taken)))
        running.clear()
        note(state.progressed())
        state.check()
    for taken in [*running, *state.take(1e9, 99, 0)]:
        state.computed(taken, result(taken))
    note(state.progressed())
    assert not state.has_ready and (not state._waiters or pending)


@given(st.lists(st.tuples(st.sampled_from(["put", "pin", "unpin"]), st.integers(0, 6)), max_size=80))
def test_the_cache_keeps_its_bound_and_its_pins(steps: list[tuple[str, int]]) -> None:
    cache = OperandCache(100)
    pins: dict[int, int] = {}
    for step, n in steps:
        key = ("x", n, 10 * n + 5)
        if step == "put":
            cache.put(key, bytes(key[2]))
            assert key in cache
        elif step == "pin":
            if cache.pin(key) is not None:
                pins[n] = pins.get(n, 0) + 1
        elif pins.get(n):
            cache.unpin(key)
            pins[n] -= 1
        assert all(("x", n, 10 * n + 5) in cache for n, count in pins.items() if count)
        pinned = sum(10 * n + 5 for n, count in pins.items() if count)
        assert cache.bytes_pinned == pinned
        assert cache.bytes_held <= max(100, pinned + 65)
