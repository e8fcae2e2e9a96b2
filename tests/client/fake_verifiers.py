"""Verification keys of the fake mesh: the registry's own rules, over a log in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fake_problems import problem
from made_keys import made_key
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shardy_common import verifiers as rules
from shardy_common.errors import Refused
from shardy_common.log import Append, MemoryLog
from shardy_gateway.problems import slug_of
from shardy_gateway.verifier_rules import decide_register, decide_revoke, decide_rotate
from shardy_gateway.verifiers import listed, shown

NOW_MS = 86_400_000


class FakeVerifiers:
    """v1 is active, v0 was before, v2 is registered."""

    def reset(self) -> None:
        self.log, self.registry = MemoryLog(lambda: NOW_MS), rules.Registry()
        self.keys: dict[str, str] = {}
        for number in range(3):
            self._register("product", f"v{number}", (8, 384, 8), made_key(number))
        self._rotate("product", "v0", 0)
        self._rotate("product", "v1", 60)

    async def all(self, request: Request) -> Response:
        if request.method == "GET":
            assert set(request.query_params) <= {"limit", "after", "circuit"}
            found = [shown(version, NOW_MS) for version in listed(self.registry)]
            return JSONResponse({"verifiers": found, "next": None})
        body = await request.json()
        assert set(body) == {"circuit", "version", "shape", "vk", "dev"}
        m, k, n = body["shape"]

        def register() -> dict[str, Any]:
            try:
                key = rules.checked_key(body["vk"])
            except ValueError as error:
                raise Refused(f"vk: {error}") from None
            self._register(body["circuit"], body["version"], (m, k, n), key._replace(dev=key.dev or body["dev"]))
            return shown(self.registry.versions[body["version"]], NOW_MS)

        return self._answer(register, 201)

    async def one(self, request: Request) -> Response:
        version = self.registry.versions.get(request.path_params["version"])
        if version is None:
            return problem(404, "no-such-verifier", "no version of this name is registered")
        return JSONResponse({**shown(version, NOW_MS), "vk": self.keys[version.version]})

    async def rotate(self, request: Request) -> Response:
        body = await request.json()
        assert set(body) <= {"circuit", "version", "grace_s"}

        def rotate() -> dict[str, Any]:
            done = self._rotate(body["circuit"], body["version"], body.get("grace_s", 600))
            more = {"former": done.former or None, "grace_until_ms": done.grace_until_ms if done.former else None}
            return {"circuit": done.circuit, "version": done.version, **more}

        return self._answer(rotate)

    async def revoke(self, request: Request) -> Response:
        body = await request.json()
        assert set(body) <= {"version", "why", "successor"}

        def revoke() -> dict[str, Any]:
            successor = body.get("successor", "")
            self._take(decide_revoke(self.registry, body["version"], successor, body["why"], "op", False))
            return shown(self.registry.versions[body["version"]], NOW_MS)

        return self._answer(revoke)

    def _answer(self, do: Callable[[], dict[str, Any]], status: int = 200) -> Response:
        try:
            return JSONResponse(do(), status)
        except Refused as refused:
            return problem(refused.status, slug_of(refused.title), refused.detail)

    def _register(self, circuit: str, version: str, shape: tuple[int, int, int], key: rules.Key) -> None:
        self._take(decide_register(self.registry, circuit, version, shape, key, "op", False))
        self.keys.setdefault(version, key.vk)

    def _rotate(self, circuit: str, version: str, grace_s: int) -> Any:
        return self._take(decide_rotate(self.registry, circuit, version, 1_000 * grace_s, NOW_MS, "op", False))

    def _take(self, event: Any) -> Any:
        if event is not None:
            self.log.append_now(Append(event, f"{len(self.log.events)}"))
            self.registry.evolve(self.log.events[-1])
        return event
