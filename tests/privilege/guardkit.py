"""A real nats-server with the configuration that a mesh has, and a connection for each role."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

from shardy_common import nats_nodes
from shardy_common.log.client import LogClient, connect
from shardy_common.nkey import ensure_seed
from shardy_common.permissions import ROLES

ANSWER_S = 20.0  # for an answer that must come


class Guarded:
    """A server, or a cluster of them, with a key for each role."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        self.folder = folder
        self.keys = {role: ensure_seed(self.seed(role)) for role in ROLES}
        self.nodes = nats_nodes.nodes(folder, count)
        self.node = self.nodes[0]
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for node in self.nodes:
            (folder / f"{node.name}.conf").write_text(nats_nodes.config(node, self.nodes, self.keys))
            self.start(node.server)

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def start(self, server: str) -> None:
        """Of a name as the server has it."""
        (name,) = (node.name for node in self.nodes if node.server == server)
        self.running[server] = subprocess.Popen(
            [nats_nodes.program(), "-c", str(self.folder / f"{name}.conf"), "-l", str(self.folder / f"{name}.log")]
        )

    def kill(self, server: str) -> None:
        self.running[server].kill()
        self.running[server].wait(10)

    def seed(self, role: str) -> Path:
        return self.folder / f"{role}.seed"

    async def connect(self, role: str, **more: Any) -> LogClient:
        return await connect(self.url, name=role, role=role, seed_file=self.seed(role), **more)

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(10)


class Role:
    """A connection that notes what the server refuses to it."""

    def __init__(self, client: LogClient) -> None:
        self.client, self.name = client, client.role
        self.refused: list[str] = []

    async def refuses(self, *, publish: str = "", subscribe: str = "", payload: bytes = b"{}") -> bool:
        """Whether the server refuses it. A ping's answer comes after the refusal of what was sent before it."""
        before = len(self.refused)
        if publish:
            await self.client.publish(publish, payload)
        else:
            sub = await self.client.subscribe(subscribe)
        await self._pinged()
        if subscribe:
            await sub.unsubscribe()
        words = self.refused[before:]
        want = f'{"publish" if publish else "subscription"} to "{(publish or subscribe).lower()}"'
        assert all(want in word for word in words), words
        return bool(words)

    async def _pinged(self) -> None:
        """The client's own flush() may send its ping before what is queued."""
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.client._pongs.append(pong)
        await self.client.send_raw([b"PING\r\n"])
        await asyncio.wait_for(pong, ANSWER_S)

    async def ask(self, subject: str, body: Any = None) -> dict[str, Any]:
        reply = await self.client.request(subject, json.dumps(body).encode() if body else b"", timeout=ANSWER_S)
        return dict(json.loads(reply.data))


async def role_of(guarded: Guarded, name: str) -> Role:
    role = Role(await guarded.connect(name))
    heard = role.client._error_cb

    async def note(error: Exception) -> None:
        role.refused.append(str(error))
        await heard(error)

    role.client._error_cb = note
    return role
