"""The worker's side of the protocol as a state machine without sockets, threads or clocks.

Frames and outcomes go in, instructions come out; time arrives as an argument (seconds, any monotonic origin).
A lease is in exactly one place: `blocked` (an operand is missing), the ready heap, `running`, or `held` (computed,
not acknowledged). `check()` verifies that and is called at the end of every test.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from shardy_client.worker import kinds
from shardy_client.worker.cache import Key, OperandCache
from shardy_client.worker.messages import (
    Bye,
    Counters,
    Fetch,
    Instruction,
    Joined,
    Phase,
    ProtocolError,
    Result,
    RunProbe,
    Sign,
    Upload,
    Work,
)
from shardy_common import limits
from shardy_common.wire import frame

VERSION = 1
CARRY_BYTES_MAX = limits.RESULT_INLINE_BYTES_MAX
RESULTS_PER_FRAME_MAX = 512
RESULT_FRAME_BYTES_MAX = 12 * 1024 * 1024
FETCHES_MAX = 4
HELD_IDS_MAX = 4096


class WorkerState:
    """See the module's docstring. One object lives as long as the worker, through any number of connections."""

    def __init__(self, public_key: bytes, agent: str, cache_bytes: int = 256 << 20) -> None:
        self.public_key = public_key
        self.agent = agent[: limits.AGENT_CHARS_MAX]
        self.phase = Phase.CLOSED
        self.session = ""
        self.token = ""
        self.max_leases = 0
        self.cache = OperandCache(cache_bytes)
        self.counters = Counters()
        self._seq = 0
        self._works: dict[str, Work] = {}
        self._ready: list[Work] = []
        self._ready_count = 0
        self._running: set[str] = set()
        self._waiters: dict[Key, list[Work]] = {}
        self._fetching: dict[Key, int] = {}
        self._fetching_bytes = 0
        self._held: dict[str, Result] = {}
        self._outbox: deque[Result] = deque()
        self._control: deque[dict[str, Any]] = deque()
        self._returns: list[dict[str, Any]] = []

    # --- the connection -------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The socket stands: greet."""
        self._control.clear()
        self.phase = Phase.CHALLENGE
        # The mesh takes so many ids; leases past it would simply be lent again.
        held = [*self._held, *self._works][:HELD_IDS_MAX]
        self._control.append(
            {"t": "hello", "versions": [VERSION], "key": self.public_key, "agent": self.agent, "held": held}
        )

    def closed(self) -> None:
        """The socket is gone. Leases and results stay: both are good in the next session."""
        self.phase = Phase.CLOSED
        self.token = ""
        self._control.clear()
        self._outbox.clear()
        self._fetching.clear()
        self._fetching_bytes = 0
        for result in self._held.values():
            result.queued = False

    def received(self, header: dict[str, Any], segments: list[memoryview], now: float) -> list[Instruction]:
        """One frame of the gateway. ProtocolError when it is not one, or not one for now."""
        name = header.get("t")
        expected = _PHASES.get(name) if isinstance(name, str) else None
        if expected is None:
            raise ProtocolError(f"unknown frame type {name!r}")
        if self.phase is not expected and name not in _ANY_PHASE:
            raise ProtocolError(f"frame {name} while waiting for {self.phase}")
        try:
            return getattr(self, f"_on_{name}")(header, segments, now)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ProtocolError(f"frame {name}: {type(error).__name__}: {error}") from None

    def _on_challenge(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        nonce, session, version = header["nonce"], header["session"], header["version"]
        if version != VERSION:
            raise ProtocolError(f"version {version!r} was not offered")
        if not isinstance(nonce, bytes) or len(nonce) != 32 or not isinstance(session, str):
            raise ProtocolError("a challenge has a nonce of 32 bytes and a session id")
        self.session = session
        return [Sign(nonce, session)]

    def authenticated(self, signature: bytes) -> None:
        """The answer to `Sign`."""
        self.phase = Phase.PROBE
        self._control.append({"t": "auth", "sig": signature})

    def _on_probe(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        seed, sizes = header["seed"], [header[key] for key in ("m", "n", "k", "rounds")]
        if not isinstance(seed, bytes) or not all(type(size) is int and 0 < size <= limits.K_MAX for size in sizes):
            raise ProtocolError("a probe has a seed and positive sizes")
        m, n, k, rounds = sizes
        return [RunProbe(seed, m, n, k, rounds, int(header.get("memory_mib_max", 1024)))]

    def probed(self, answer: dict[str, Any]) -> None:
        """The answer to `RunProbe`: the keys of the `probed` frame but `t`."""
        self.phase = Phase.TIER
        self._control.append({"t": "probed", **answer})

    def _on_tier(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        self.phase = Phase.READY
        self.token = str(header["token"])
        self.max_leases = int(header["max_leases"])
        heartbeat_s = min(15.0, max(0.05, float(header.get("heartbeat_s", 15))))
        out: list[Instruction] = [Joined(str(header["tier"]), self.token, heartbeat_s, self.max_leases)]
        for lease, result in self._held.items():
            self._offer(lease, result, out)
        self._control.extend(self._returns)
        self._returns.clear()
        return [*out, *self._prefetch()]

    def _on_heartbeat(self, *_: Any) -> list[Instruction]:
        return []

    def _on_bye(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        return [Bye(int(header.get("code", 0)), str(header.get("reason", "")), int(header.get("retry_ms", 0)) / 1000)]

    def heartbeat(self) -> None:
        """Time for a sign of life."""
        if self.phase is Phase.READY:
            self._control.append({"t": "heartbeat", "visible": True, "throttled": False, "active": self.active})

    def leave(self) -> None:
        """Give every lease back; nothing is computed any more."""
        for work in [*self._works.values()]:
            if work.lease not in self._running:
                self._drop(work)
        if self.phase is Phase.READY:
            self._control.append({"t": "leave"})

    # --- leases ---------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Leases held: waiting, running, or computed and not acknowledged."""
        return len(self._works) + len(self._held)

    @property
    def has_ready(self) -> bool:
        """Whether `take` would return something."""
        return self._ready_count > 0

    def _on_lease(self, header: dict[str, Any], segments: list[memoryview], now: float) -> list[Instruction]:
        for digest, offset, length, index in header.get("carry", ()):
            if len(segments[index]) != length:
                raise ProtocolError(f"carry names {length} bytes, segment {index} has {len(segments[index])}")
            # A copy: a view would keep the whole frame alive for as long as the cache keeps this operand.
            out = self._arrived((digest, offset, length), bytes(segments[index]))
            if out:
                raise ProtocolError("a carried operand has no length")
        for lease in header["leases"]:
            self._admit(lease, now)
        return self._prefetch()

    def _admit(self, lease: dict[str, Any], now: float) -> None:
        name = lease["lease"]
        if name in self._works or name in self._held:
            return
        self.counters.leases += 1
        try:
            plan = kinds.parse(lease["kind"], lease["p"])
        except kinds.LeaseError as error:
            self._give_back(name, "unsupported", str(error))
            return
        self._seq += 1
        work = Work(lease, plan, now, self._seq)
        self._works[name] = work
        pin = self.cache.pin
        for operand in plan.operands:
            key = operand.key
            data = pin(key)
            if data is None:
                work.missing += 1
                self._waiters.setdefault(key, []).append(work)
            else:
                work.data.append(data)
        if work.missing == 0:
            heapq.heappush(self._ready, work)
            self._ready_count += 1

    def _on_cancel(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        for name in header["leases"]:
            work, result = self._works.get(name), self._held.get(name)
            if work is not None and name not in self._running:
                self._drop(work)
                self.counters.cancelled += 1
            elif result is not None and not result.queued:
                del self._held[name]
        return self._prefetch()

    def take(self, ops_max: float, leases_max: int, now: float) -> list[Work]:
        """Leases to compute together: the oldest ready one, and followers within the bounds. Empty: none is ready."""
        batch: list[Work] = []
        ops, ready = 0, self._ready
        while ready and len(batch) < leases_max:
            work = ready[0]
            if work.dropped:
                heapq.heappop(ready)
                continue
            if work.deadline < now:
                # The mesh may have given it to somebody else by now; fresher leases come first to it as well.
                self._drop(work)
                self.counters.expired += 1
                continue
            if batch and ops + work.plan.ops > ops_max:
                break
            ops += work.plan.ops
            heapq.heappop(ready)
            self._ready_count -= 1
            self._running.add(work.lease)
            batch.append(work)
        return batch

    def _drop(self, work: Work) -> None:
        del self._works[work.lease]
        work.dropped = True
        if work.missing == 0:
            self._ready_count -= 1
        self._release(work)

    def _release(self, work: Work) -> None:
        unpin = self.cache.unpin
        waiting: Iterable[Key] = ()
        if work.missing:
            waiting = {key for key, works in self._waiters.items() if work in works}
            for key in waiting:
                works = [other for other in self._waiters[key] if other is not work]
                if works:
                    self._waiters[key] = works
                else:
                    del self._waiters[key]
        for operand in work.plan.operands:
            if operand.key not in waiting:
                unpin(operand.key)
        work.data = []

    # --- operands -------------------------------------------------------------------------------------------

    def fetched(self, key: Key, data: bytes | bytearray) -> list[Instruction]:
        """The bytes of `Fetch(key)` are here."""
        self._fetching_bytes -= self._fetching.pop(key, 0)
        return [*self._arrived(key, data), *self._prefetch()]

    def fetch_failed(self, key: Key, message: str) -> list[Instruction]:
        """`Fetch(key)` failed for good: the leases that need it go back."""
        self._fetching_bytes -= self._fetching.pop(key, 0)
        for work in self._waiters.get(key, [])[:]:
            if work.lease in self._works:
                self._drop(work)
                self._give_back(work.lease, "fetch", message)
        return self._prefetch()

    def _arrived(self, key: Key, data: bytes | bytearray) -> list[Instruction]:
        if len(data) != key[2]:
            return self.fetch_failed(key, f"{len(data)} bytes came where {key[2]} were named")
        self.cache.put(key, data)
        for work in self._waiters.pop(key, ()):
            self.cache.pin(key)
            work.missing -= 1
            if work.missing == 0:
                # Pinned operands never leave the cache, so a second pin finds each and its release restores the count.
                work.data = []
                for operand in work.plan.operands:
                    held = self.cache.pin(operand.key)
                    assert held is not None
                    work.data.append(held)
                    self.cache.unpin(operand.key)
                heapq.heappush(self._ready, work)
                self._ready_count += 1
        return []

    def _prefetch(self) -> list[Instruction]:
        """Fetch what the oldest leases miss, as far as connections and the cache allow."""
        if not self._waiters or self.phase is not Phase.READY:
            return []
        out: list[Instruction] = []
        for key in self._waiters:
            if len(self._fetching) >= FETCHES_MAX:
                break
            if key in self._fetching:
                continue
            room = self.cache.capacity - self.cache.bytes_pinned - self._fetching_bytes
            # One operand larger than the cache must still be possible, alone.
            alone = not self._fetching and not self._ready_count and not self._running
            if key[2] > room and not alone:
                break
            self._fetching[key] = key[2]
            self._fetching_bytes += key[2]
            out.append(Fetch(key))
        return out

    # --- results --------------------------------------------------------------------------------------------

    def computed(self, work: Work, result: Result) -> list[Instruction]:
        """`work` has a result: hold it till it is acknowledged, and send it."""
        self._running.discard(work.lease)
        del self._works[work.lease]
        self._release(work)
        self.counters.computed += 1
        self._held[work.lease] = result
        out: list[Instruction] = []
        if self.phase is Phase.READY:
            self._offer(work.lease, result, out)
        return out

    def compute_failed(self, work: Work, code: str, message: str) -> None:
        """`work` cannot be computed here. code: one of protocol §5's."""
        self._running.discard(work.lease)
        del self._works[work.lease]
        self._release(work)
        self._give_back(work.lease, code, message)

    def progressed(self) -> list[Instruction]:
        """Call after a batch of `computed` and `compute_failed`: what to fetch now that operands are released."""
        return self._prefetch()

    def uploaded(self, lease: str) -> None:
        """The result's bytes are with the gateway."""
        result = self._held.get(lease)
        if result is not None and self.phase is Phase.READY and not result.queued:
            result.queued = True
            self._outbox.append(result)

    def upload_failed(self, lease: str, code: str | None, message: str) -> None:
        """The bytes could not be handed over. code None: the gateway does not want them any more."""
        if self._held.pop(lease, None) is not None and code is not None:
            self._give_back(lease, code, message)

    def held_data(self, lease: str) -> kinds.Bytes | None:
        """The bytes to upload, or None when nobody waits for them any more."""
        result = self._held.get(lease)
        return None if result is None else result.data

    def _offer(self, lease: str, result: Result, out: list[Instruction]) -> None:
        if result.size > CARRY_BYTES_MAX:
            out.append(Upload(lease))
        else:
            result.queued = True
            self._outbox.append(result)

    def _give_back(self, lease: str, code: str, message: str) -> None:
        self.counters.failed += 1
        header = {"t": "failed", "lease": lease, "code": code, "message": message[:500]}
        # Outside a session it waits: a frame of another type is malformed during the handshake.
        (self._control.append if self.phase is Phase.READY else self._returns.append)(header)

    def _on_ack(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        outcomes, pop = self.counters.outcomes, self._held.pop
        for lease, outcome in header["acks"]:
            pop(lease, None)
            outcomes[outcome] += 1
        return []

    # --- frames out -----------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether `next_frame` would return one."""
        return bool(self._control or self._outbox)

    def next_frame(self) -> bytes | None:
        """The next frame to send, or None. Results that are ready together travel together."""
        if self._control:
            self.counters.frames_out += 1
            return frame.encode(self._control.popleft())
        headers: list[dict[str, Any]] = []
        segments: list[Any] = []
        size = 0
        outbox, held = self._outbox, self._held
        while outbox and len(headers) < RESULTS_PER_FRAME_MAX:
            result = outbox[0]
            header = result.header
            if held.get(header["lease"]) is not result:
                outbox.popleft()
                continue
            if result.size <= CARRY_BYTES_MAX:
                if size and size + result.size > RESULT_FRAME_BYTES_MAX:
                    break
                size += result.size
                header["s"] = len(segments)
                segments.append(result.data)
            outbox.popleft()
            headers.append(header)
        if not headers:
            return None
        self.counters.frames_out += 1
        return frame.encode({"t": "result", "results": headers}, segments)

    # --- invariants -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise AssertionError unless every lease is in one place and every pin has an owner."""
        ready = {work.lease for work in self._ready if not work.dropped}
        blocked = {work.lease for works in self._waiters.values() for work in works}
        assert len(ready) == self._ready_count
        assert set(self._works) == ready | blocked | self._running
        assert not (ready & blocked or ready & self._running or blocked & self._running)
        assert not set(self._works) & set(self._held)
        pins: Counter[Key] = Counter()
        for work in self._works.values():
            for operand in work.plan.operands:
                if not any(work is other for other in self._waiters.get(operand.key, ())):
                    pins[operand.key] += 1
        assert pins == {key: entry.refs for key, entry in self.cache._entries.items() if entry.refs}
        assert self.cache.bytes_held == sum(len(entry.data) for entry in self.cache._entries.values())
        assert self._fetching_bytes == sum(self._fetching.values())


_PHASES = {
    "challenge": Phase.CHALLENGE,
    "probe": Phase.PROBE,
    "tier": Phase.TIER,
    "lease": Phase.READY,
    "cancel": Phase.READY,
    "ack": Phase.READY,
    "heartbeat": Phase.READY,
    "bye": Phase.READY,
}
_ANY_PHASE = {"bye"}
