"""The worker socket `/ws/worker-join`: handshake, then frames until it closes (docs/protocol.md §2 and after)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import WebSocket, WebSocketDisconnect

from shardy_common import ids, limits
from shardy_common.log import Append, Appended, Full, JetStreamLog
from shardy_common.wire import events as ev
from shardy_gateway.descriptors import sockets_max
from shardy_gateway.gates import Gates
from shardy_gateway.hub import Hub
from shardy_gateway.passes import Passes
from shardy_gateway.probes import Probes
from shardy_gateway.refusals import Refusals
from shardy_gateway.session import GOODBYE_S, UNREAD, CloseSession, Session

log = logging.getLogger("shardy.gateway")
VERSIONS = (2,)
HANDSHAKE_S = 60
SILENCE_S = 45
HEARTBEAT_S = 15
HELD_MAX = 4_096
DOMAIN = b"shardy-join-v1\x00"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Who this gateway is. name survives restarts, instance does not."""

    name: str
    instance: str
    mesh: str
    probe_memory_mib_max: int


class Door:
    def __init__(
        self,
        gateway: Gateway,
        hub: Hub,
        event_log: JetStreamLog,
        probes: Probes,
        passes: Passes,
        gates: Gates,
        refusals: Refusals,
    ) -> None:
        self.gateway, self.hub, self.log, self.probes = gateway, hub, event_log, probes
        self.passes, self.gates, self.refusals = passes, gates, refusals
        self.tokens: dict[str, Session] = {}  # bearer tokens of joined workers
        self._open = 0  # sockets, joined or not

    async def serve(self, socket: WebSocket) -> None:
        """One connection, from accept to close. Never raises."""
        await socket.accept()
        address = socket.client.host if socket.client else "unknown"
        socket.scope["headers"] = []  # nothing asks for them later, and they are half of what a socket's scope holds
        session = Session(socket, secrets.token_hex(8), "", address, "", "")
        refused = self.gates.join(address, time.monotonic())
        self.gates.opened(address)
        self._open += 1
        try:
            if refused is not None:
                raise CloseSession(refused.code, refused.reason, refused.retry_ms)
            most = self.gates.settings.sessions_max
            if len(self.hub.sessions) >= most:
                raise CloseSession(1012, f"this gateway holds its limit of {most} workers", 10_000)
            if self._open > sockets_max():
                raise CloseSession(1012, "this gateway has no file descriptors left for more sockets", 10_000)
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    joined = await self._handshake(session)
            except TimeoutError:
                raise CloseSession(4408, f"the handshake took over {HANDSHAKE_S} s", 1_000) from None
            await self._admit(session, joined)
            del joined  # an idle session is held for hours, and this would be with it
            await self._listen(session)
        except CloseSession as why:
            session.close(why)
        except (WebSocketDisconnect, RuntimeError):
            session.close(CloseSession(1000, "closed by the worker"))
        except Exception:
            log.exception("worker session %s failed", session.id)
            session.close(CloseSession(1012, "the gateway failed; reconnect", 1_000))
        finally:
            self._open -= 1
            self.gates.closed(address)
            await self._leave(session)

    async def _handshake(self, session: Session) -> ev.WorkerJoined:
        hello = await self._expect(session, "hello")
        versions, key, held = hello.get("versions"), hello.get("key"), hello.get("held", [])
        if not isinstance(versions, list) or not set(VERSIONS) & {v for v in versions if isinstance(v, int)}:
            raise CloseSession(4406, f"this gateway speaks the protocol versions {list(VERSIONS)}")
        if not isinstance(key, bytes) or len(key) != 32:
            raise CloseSession(4400, "hello.key is a raw 32-byte Ed25519 public key")
        if not isinstance(held, list) or len(held) > HELD_MAX or not all(isinstance(x, str) for x in held):
            raise CloseSession(4400, f"hello.held is a list of at most {HELD_MAX} lease ids")
        session.worker, session.key = ids.worker_id(key), key
        session.agent = str(hello.get("agent", ""))[: limits.AGENT_CHARS_MAX]
        nonce = secrets.token_bytes(32)
        session.send(
            {
                "t": "challenge",
                "version": VERSIONS[-1],
                "nonce": nonce,
                "session": session.id,
                "mesh": self.gateway.mesh,
            }
        )
        auth = await self._expect(session, "auth")
        signature = auth.get("sig")
        try:
            public = Ed25519PublicKey.from_public_bytes(key)
            public.verify(
                signature if isinstance(signature, bytes) else b"", DOMAIN + nonce + key + session.id.encode()
            )
        except (InvalidSignature, ValueError):
            raise CloseSession(4401, "the signature does not fit the key and the challenge") from None
        barred = self.gates.join_of(session.worker, time.monotonic())
        if barred is not None:
            raise CloseSession(barred.code, barred.reason, barred.retry_ms)
        known = self.hub.views.workers.find(session.worker)
        if known is not None and known.banned:
            raise CloseSession(4403, "this key is banned after a proven wrong result")
        probe = await self._probe(session)
        return ev.WorkerJoined(
            session.worker,
            session.id,
            self.gateway.name,
            self.gateway.instance,
            session.address,
            session.agent,
            key.hex(),
            probe,
            held,
        )

    async def _probe(self, session: Session) -> ev.Probe:
        known = await self.probes.take()
        side = limits.PROBE_SIDE
        started = time.monotonic()
        session.send(
            {
                "t": "probe",
                "seed": known.seed,
                "m": side,
                "n": side,
                "k": side,
                "rounds": limits.PROBE_ROUNDS,
                "memory_mib_max": self.gateway.probe_memory_mib_max,
            }
        )
        probed = await self._expect(session, "probed")
        elapsed_ms = (time.monotonic() - started) * 1e3
        if probed.get("digest") != known.digest:
            raise CloseSession(4401, "the probe's digest is wrong: this device does not compute exactly")
        gops, ms, memory = probed.get("gops"), probed.get("ms"), probed.get("memory_mib")
        # written so that NaN fails too: the log has no way to write it down
        if not isinstance(gops, (int, float)) or not 0 < gops < 1e7:
            raise CloseSession(4400, "probed.gops is a positive number of 10⁹ operations a second")
        if not isinstance(ms, (int, float)) or not 0 <= ms < 1e9:
            raise CloseSession(4400, "probed.ms is a number of milliseconds")
        if not isinstance(memory, int) or not 0 < memory <= self.gateway.probe_memory_mib_max:
            raise CloseSession(4400, f"probed.memory_mib is 1 to {self.gateway.probe_memory_mib_max}")
        proves = probed.get("proves_mib", 0)
        if type(proves) is not int or not 0 <= proves <= memory:
            raise CloseSession(4400, "probed.proves_mib is 0 for none, and at most probed.memory_mib")
        return ev.Probe(
            float(gops),
            float(ms),
            memory,
            str(probed.get("backend", ""))[:16],
            str(probed.get("gpu") or "")[:120],
            str(probed.get("engine", ""))[:64],
            str(probed.get("kernels", ""))[:64],
            round(elapsed_ms, 3),
            proves,
        )

    async def _admit(self, session: Session, joined: ev.WorkerJoined) -> None:
        """Record the join, wait for the matchmaker's tier, and open for leases."""
        before = self.hub.sessions.get(session.worker)
        if before is not None:
            before.close(CloseSession(4409, "the same key joined again"))
        self.hub.sessions[session.worker] = session
        self.hub.remember(session, joined.held)
        session.announced = True
        await self._record(joined, f"join/{session.id}")
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                tiered: ev.WorkerTiered = await session.tiered
        except TimeoutError:
            raise CloseSession(1012, "no tier was given in time; reconnect", 2_000) from None
        if tiered.tier == "banned":
            raise CloseSession(4403, "this key is banned after a proven wrong result")
        if tiered.tier == "too-small":
            raise CloseSession(4401, "this device is too small for any tier: it needs at least 16 MiB")
        session.token = self.passes.make(session.id, session.worker)
        self.tokens[session.token] = session
        session.open(
            {
                "t": "tier",
                "tier": tiered.tier,
                "max_leases": tiered.max_leases,
                "token": session.token,
                "session": session.id,
                "heartbeat_s": HEARTBEAT_S,
            }
        )
        self.hub.challenge_again(session)

    async def _listen(self, session: Session) -> None:
        while session.closing is None:
            await self.hub.until_room(session)
            header, segments = await session.receive()
            kind = header["t"]
            if kind == "result":
                self.hub.take_results(session, header, segments)
            elif kind == "proof":
                self.hub.take_proofs(session, header, segments)
            elif kind == "heartbeat":
                session.send({"t": "heartbeat", "credit": self._credit(session)})
            elif kind == "failed":
                self.hub.take_failed(session, header)
            elif kind == "leave":
                session.close(CloseSession(1000, "goodbye"))
                await self._record(ev.WorkerLeft(session.worker, session.id, "left"), f"left/{session.id}")
                return
            else:
                raise CloseSession(4400, f"frame type {kind[:32]!r} is not expected here")

    def _credit(self, session: Session) -> dict[str, int]:
        """What was verified of this worker, ever."""
        tasks, ops = self.hub.views.ledger.total_of(session.worker)
        return {"tasks": tasks, "ops": ops}

    async def sweep(self) -> None:
        """Close sessions that have been silent, or have not read, for too long; for ever."""
        while True:
            await asyncio.sleep(min(5.0, self.gates.settings.stall_s))
            now = time.monotonic()
            for session in list(self.hub.sessions.values()):
                if session.sending_since and now - session.sending_since > self.gates.settings.stall_s:
                    session.end(CloseSession(4408, UNREAD, 1_000))
                elif now - session.seen > SILENCE_S and not session.held_back:
                    session.end(CloseSession(4408, f"nothing heard for {SILENCE_S} s", 1_000))

    async def _leave(self, session: Session) -> None:
        session.close(CloseSession(1000, "closed"))
        why = session.closing
        if why is not None and why.code != 1000:
            self.refusals.socket(why.code, why.reason, session.id, session.worker, session.address)
        await session.sent(patience_s=2)
        asyncio.get_running_loop().call_later(GOODBYE_S, session.abort)
        self.tokens.pop(session.token, None)
        if self.hub.sessions.get(session.worker) is session:
            del self.hub.sessions[session.worker]
        if session.announced:
            await self._record(ev.WorkerLeft(session.worker, session.id, "dropped"), f"left/{session.id}", tries=3)

    async def _record(self, event: ev.Event, msg_id: str, tries: int = 40) -> None:
        for attempt in range(tries):
            outcome = (await self.log.append([Append(event, msg_id)]))[0]
            if isinstance(outcome, Appended):
                return
            if isinstance(outcome, Full) and isinstance(event, ev.WorkerJoined):
                raise CloseSession(1012, "the log is full, so nobody can join: come back later", 30_000)
            await asyncio.sleep(min(0.1 * 2**attempt, 2.0))

    async def _expect(self, session: Session, kind: str) -> dict[str, Any]:
        header, _ = await session.receive()
        if header["t"] != kind:
            raise CloseSession(4400, f"expected a {kind} frame, got {str(header['t'])[:32]!r}")
        return header
