"""Workers of a simulated mesh, honest and not, and the frames between them and their gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import mesh_tokens
from mesh_faults import ANSWER_MS

from shardy_common.proofs.parse import PROOF_BYTES
from shardy_common.wire import events as ev

if TYPE_CHECKING:
    from mesh_gateway import GatewayNode
    from mesh_world import Mesh

    from shardy_common.wire.job import Tile

RESEND_MS = 3_000


@dataclass(eq=False)
class Worker:
    """ways: liar | colluder | sleeper | slow | lazy | vanishing | failing, in any mixture; none: honest and steady.

    A sleeper is right until it is trusted, and then lies now and then. held: leases that it works on or has not been
    acknowledged for.
    """

    mesh: Mesh
    id: str
    address: str
    ways: frozenset[str]
    session: str = ""
    gateway: GatewayNode | None = None  # while it is connected
    held: dict[str, Any] = field(default_factory=dict)
    joins: int = 0
    out: bool = False  # it was banned
    asked: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # frames of proofs that it has not answered, by lease

    @property
    def honest(self) -> bool:
        return not self.ways & {"liar", "colluder", "sleeper"}

    def lies_now(self) -> bool:
        if "sleeper" not in self.ways:
            return not self.honest
        known = self.mesh.oracle.of(self.id)
        return known.may_be_trusted_with(1) and self.mesh.rng.random() < 0.5

    # -- its session ----------------------------------------------------------------------------------------------

    def join(self) -> None:
        if self.gateway is not None or self.out:
            return
        rng = self.mesh.rng
        gateway = rng.choice(self.mesh.gateways)
        if not gateway.up or not gateway.line.sends:  # nobody answers there
            self.mesh.later(self.mesh.delay(2_000), self.join)
            return
        if gateway.bans(self.id):
            self.banned()
            return
        self.joins += 1
        self.session = f"s{self.joins}-{self.id}"
        self.gateway = gateway
        if self.mesh.chance(0.3):
            self.held.clear()  # the page was loaded anew
        gops = rng.choice((5.0, 20.0, 60.0))
        proves = self.proves_mib() if self.mesh.shape.proofs else 0
        probe = ev.Probe(gops, 1.0, 1024, "wasm", gateway_ms=1.0, proves_mib=proves)
        agent, held = f"agent {self.id}", list(self.held)
        joined = ev.WorkerJoined(
            self.id, self.session, gateway.name, gateway.instance, self.address, agent, "k", probe, held
        )
        gateway.admit(self, joined)
        for lease_id, task in list(self.held.items()):
            self.mesh.later(self.mesh.delay(100), partial(self.work, task, lease_id))

    def proves_mib(self) -> int:
        """What it gives for proofs in this session: it may be less than in the one before."""
        return self.mesh.rng.choice((0, 512, 512, 512)) if self.mesh.stormy and "steady" not in self.ways else 512

    def vanish(self) -> None:
        """It goes, or its connection breaks; its gateway notices, and it comes back some time."""
        gateway, self.gateway = self.gateway, None
        if gateway is None:
            return
        cause = "dropped" if self.mesh.rng.random() < 0.8 else "left"
        if cause == "left":
            self.held.clear()
        gateway.leave(self, self.session, cause)
        self.mesh.later(self.mesh.delay(self.mesh.shape.away_ms), self.join)

    def cut_off(self) -> None:
        """Its gateway is gone."""
        self.gateway = None
        self.mesh.later(self.mesh.delay(1_500), self.join)

    def banned(self) -> None:
        self.gateway, self.out = None, True
        self.held.clear()
        self.asked.clear()

    # -- its work -------------------------------------------------------------------------------------------------

    def lent(self, task: Any, lease_id: str) -> None:
        if self.gateway is not None and lease_id not in self.held:
            self.held[lease_id] = task
            slow = "slow" in self.ways and self.mesh.stormy
            pause = self.mesh.rng.choice((200, 13_000, 25_000)) if slow else 100
            self.mesh.later(self.mesh.delay(pause), partial(self.work, task, lease_id))

    def work(self, task: Any, lease_id: str) -> None:
        if self.gateway is None or lease_id not in self.held:
            return
        if "failing" in self.ways and self.mesh.chance(0.5):
            self.held.pop(lease_id)
            self.gateway.failed(self, lease_id)
            return
        if "lazy" in self.ways and self.mesh.chance(0.6):
            self.held.pop(lease_id)  # it takes work and never says a word about it
            return
        data = self.mesh.work.right(task.job, task.tile)[0]
        if self.lies_now():
            secret = "together" if "colluder" in self.ways else self.id
            data = self.mesh.work.wrong_bytes(task.job, task.tile, secret)
        self.send(lease_id, data)

    def send(self, lease_id: str, data: bytes) -> None:
        """Until it is acknowledged, as often as it takes."""
        if self.gateway is None or lease_id not in self.held:
            return
        self.mesh.network.frame(80, partial(self._arrives, self.gateway, lease_id, data))
        self.mesh.later(RESEND_MS + self.mesh.delay(500), partial(self.send, lease_id, data))

    def _arrives(self, gateway: GatewayNode, lease_id: str, data: bytes) -> None:
        if gateway is self.gateway and gateway.up:
            gateway.result(self, lease_id, data, self.mesh.rng.choice((0.2, 30.0, 900.0)))

    def forget(self, lease_id: str) -> None:
        """Acknowledged, or not wanted any more."""
        self.held.pop(lease_id, None)

    # -- its proofs -----------------------------------------------------------------------------------------------

    def prove(self, frame: dict[str, Any], tile: Tile) -> None:
        """It is asked for proofs of a result of its. The same question may come again."""
        lease_id, mesh = frame["lease"], self.mesh
        if self.gateway is None or lease_id in self.asked:
            return
        self.asked[lease_id] = frame
        if mesh.happens("challenges not answered", 0.05):
            return
        pause = 400
        if mesh.happens("proofs given up", 0.04):
            self.asked.pop(lease_id)
            self.gateway.failed(self, lease_id)
            return
        if mesh.happens("proofs that are late", 0.05):
            pause = ANSWER_MS + mesh.rng.choice((0, 1_000, 8_000))
        right = mesh_tokens.prove(mesh.work, frame["job"], tile, frame, self.id)
        mesh.made.append((frame, right))
        mesh.later(mesh.delay(pause), partial(self._hand_in, lease_id, self._made_up(frame, tile) or right))

    def _made_up(self, frame: dict[str, Any], tile: Tile) -> bytes:
        """What it hands in in place of a proof, if it does."""
        mesh, size = self.mesh, len(frame["tiles"]) * PROOF_BYTES
        others = [(f, p) for f, p in mesh.made if f["lease"] != frame["lease"] and len(p) == size]
        if mesh.happens("proofs of nothing", 0.04):
            return bytes(size)
        same = [p for f, p in others if f["task"] == frame["task"]]
        if same and mesh.happens("proofs of another lease", 0.3):
            return same[-1]
        if others and mesh.happens("proofs of another task", 0.05):
            return mesh.rng.choice(others)[1]
        return b""

    def _hand_in(self, lease_id: str, data: bytes) -> None:
        """Until it is acknowledged, as a result is."""
        if lease_id not in self.asked:
            return
        if self.gateway is not None:
            self.mesh.network.frame(80, partial(self._proofs_arrive, self.gateway, lease_id, data))
        self.mesh.later(RESEND_MS + self.mesh.delay(500), partial(self._hand_in, lease_id, data))

    def _proofs_arrive(self, gateway: GatewayNode, lease_id: str, data: bytes) -> None:
        if gateway is self.gateway and gateway.up:
            gateway.proofs(self, lease_id, data)

    def heard(self, lease_id: str) -> None:
        """Its proofs are acknowledged, or too late."""
        self.asked.pop(lease_id, None)
