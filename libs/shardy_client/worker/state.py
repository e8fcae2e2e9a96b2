"""The worker's side of the protocol as a state machine without sockets, threads or clocks.

Frames and outcomes go in, instructions come out; time arrives as an argument (seconds, any monotonic origin).
A lease is in the queue (`leases.py`) until it is computed, then held until it is acknowledged. `check()` verifies
the invariants; it is called at the end of every test.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from shardy_client.worker import kinds
from shardy_client.worker.leases import LeaseQueue
from shardy_client.worker.messages import (
    Bye,
    Credit,
    Instruction,
    Joined,
    Phase,
    ProtocolError,
    Prove,
    Result,
    RunProbe,
    Sign,
    Upload,
    Work,
)
from shardy_client.worker.proving import Asked
from shardy_common import ids, limits
from shardy_common.proofs.parse import PROOF_BYTES
from shardy_common.wire import frame, merkle

VERSION = 2
CARRY_BYTES_MAX = limits.RESULT_INLINE_BYTES_MAX
RESULTS_PER_FRAME_MAX = 512
RESULT_FRAME_BYTES_MAX = 12 * 1024 * 1024
HELD_IDS_MAX = 4096
PROOFS_KEPT_MAX = 64  # until they are acknowledged; what is dropped is made again when it is asked for again


_PHASES = {
    "challenge": Phase.CHALLENGE,
    "probe": Phase.PROBE,
    "tier": Phase.TIER,
    "lease": Phase.READY,
    "cancel": Phase.READY,
    "ack": Phase.READY,
    "prove": Phase.READY,
    "heartbeat": Phase.READY,
    "bye": Phase.READY,
}
_ANY_PHASE = {"bye"}


class WorkerState(LeaseQueue):
    """See the module's docstring. One object lives as long as the worker, through any number of connections.

    sign: from the root of a frame's results to the signature that answers for them (protocol §5.1).
    """

    def __init__(
        self, public_key: bytes, sign: Callable[[bytes], bytes], agent: str, cache_bytes: int = 256 << 20
    ) -> None:
        super().__init__(cache_bytes)
        self.public_key = public_key
        self._sign = sign
        self.agent = agent[: limits.AGENT_CHARS_MAX]
        self.phase = Phase.CLOSED
        self.session = ""
        self.token = ""
        self.max_leases = 0
        self.credit: Credit | None = None
        self._held: dict[str, Result] = {}
        self._outbox: deque[Result] = deque()
        self._control: deque[dict[str, Any]] = deque()
        self._returns: list[dict[str, Any]] = []
        self._proving: set[str] = set()
        self._proofs: OrderedDict[str, tuple[bytes, dict[str, Any]]] = OrderedDict()  # made, not acknowledged yet
        self._proofs_due: deque[str] = deque()

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
        self.may_fetch = False
        self._forget_fetches()
        for result in self._held.values():
            result.queued = False
        self._proofs_due.clear()

    def received(self, header: dict[str, Any], segments: list[memoryview], now: float) -> list[Instruction]:
        """One frame of the gateway. ProtocolError when it is not one, or comes at the wrong moment."""
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
        self.may_fetch = True
        self.token = str(header["token"])
        self.max_leases = int(header["max_leases"])
        heartbeat_s = min(15.0, max(0.05, float(header.get("heartbeat_s", 15))))
        out: list[Instruction] = [Joined(str(header["tier"]), self.token, heartbeat_s, self.max_leases)]
        for lease, result in self._held.items():
            self._offer(lease, result, out)
        self._control.extend(self._returns)
        self._returns.clear()
        return [*out, *self._prefetch()]

    def _on_heartbeat(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        credit = header.get("credit")
        if credit is not None:
            self.credit = Credit(int(credit["tasks"]), int(credit["ops"]))
        return []

    def _on_bye(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        return [Bye(int(header.get("code", 0)), str(header.get("reason", "")), int(header.get("retry_ms", 0)) / 1000)]

    def heartbeat(self) -> None:
        """Time for a sign of life."""
        if self.phase is Phase.READY:
            self._control.append({"t": "heartbeat", "visible": True, "throttled": False, "active": self.active})

    def leave(self) -> None:
        """Give every lease back; nothing is computed any more."""
        self._drop_waiting()
        if self.phase is Phase.READY:
            self._control.append({"t": "leave"})

    # --- leases ---------------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """Leases held: waiting, running, or computed and not acknowledged."""
        return len(self._works) + len(self._held)

    def _on_lease(self, header: dict[str, Any], segments: list[memoryview], now: float) -> list[Instruction]:
        for digest, offset, length, index in header.get("carry", ()):
            if len(segments[index]) != length:
                raise ProtocolError(f"carry names {length} bytes, segment {index} has {len(segments[index])}")
            # A copy: a view would keep the whole frame alive for as long as the cache keeps this operand.
            out = self._arrived((digest, offset, length), bytes(segments[index]))
            if out:
                raise ProtocolError("a carried operand has no length")
        for lease in header["leases"]:
            if lease["lease"] not in self._held:
                self._admit(lease, now)
        return self._prefetch()

    def _on_cancel(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        for name in header["leases"]:
            work, result = self._works.get(name), self._held.get(name)
            if work is not None and name not in self._running:
                self._drop(work)
                self.counters.cancelled += 1
            elif result is not None and not result.queued:
                del self._held[name]
        return self._prefetch()

    # --- results --------------------------------------------------------------------------------------------

    def computed(self, work: Work, result: Result) -> list[Instruction]:
        """`work` has a result: hold it till it is acknowledged, and send it."""
        self._end(work)
        self.counters.computed += 1
        self._held[work.lease] = result
        out: list[Instruction] = []
        if self.phase is Phase.READY:
            self._offer(work.lease, result, out)
        return out

    def compute_failed(self, work: Work, code: str, message: str) -> None:
        """`work` cannot be computed here. code: one of protocol §5's."""
        self._end(work)
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

    # --- proofs ---------------------------------------------------------------------------------------------

    def _on_prove(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        """Asked again after a reconnect, what was made is sent again."""
        asked = Asked.of(header, ids.worker_id(self.public_key))
        if asked.lease in self._proofs:
            self._proofs_due.append(asked.lease)
        elif asked.lease not in self._proving:
            self._proving.add(asked.lease)
            return [Prove(asked)]
        return []

    def proved(self, lease: str, proofs: bytes, ms: float, backend: str) -> None:
        """The answer to `Prove`: 256 bytes for each tile."""
        self._proving.discard(lease)
        self.counters.proofs += len(proofs) // PROOF_BYTES
        self._proofs[lease] = (proofs, {"t": "proof", "lease": lease, "s": 0, "ms": ms, "backend": backend})
        while len(self._proofs) > PROOFS_KEPT_MAX:
            self._proofs.popitem(last=False)
        if self.phase is Phase.READY:
            self._proofs_due.append(lease)

    def prove_failed(self, lease: str, code: str, message: str) -> None:
        """It cannot be made here."""
        self._proving.discard(lease)
        self._give_back(lease, code, message)

    def _on_ack(self, header: dict[str, Any], _: list[memoryview], __: float) -> list[Instruction]:
        outcomes, pop = self.counters.outcomes, self._held.pop
        for lease, outcome in header["acks"]:
            if pop(lease, None) is None:
                self._proofs.pop(lease, None)
            outcomes[outcome] += 1
        return []

    # --- frames out -----------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether `next_frame` would return one."""
        return bool(self._control or self._outbox or self._proofs_due)

    def next_frame(self) -> bytes | None:
        """The next frame to send, or None. Results that are ready together travel together, under one signature."""
        if self._control:
            self.counters.frames_out += 1
            return frame.encode(self._control.popleft())
        while self._proofs_due:
            proofs, header = self._proofs.get(self._proofs_due.popleft(), (b"", {}))
            if proofs:
                self.counters.frames_out += 1
                return frame.encode(header, [proofs])
        headers: list[dict[str, Any]] = []
        leaves: list[bytes] = []
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
            leaves.append(result.leaf)
        if not headers:
            return None
        self.counters.frames_out += 1
        signature = self._sign(merkle.root(leaves))
        return frame.encode({"t": "result", "results": headers, "sig": signature}, segments)

    def check(self) -> None:
        """Raise AssertionError unless every lease is in one place and every pin has an owner."""
        super().check()
        assert not set(self._works) & set(self._held)
