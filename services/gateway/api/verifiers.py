"""Verification keys: listed, registered, rotated, revoked (docs/rotation.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from shardy_common import ids
from shardy_common.errors import Refused, Transient
from shardy_common.log import Appended
from shardy_common.proofs.parse import parse_vkey
from shardy_common.proofs.signals import Circuit
from shardy_common.verifiers import GRACE_MS_MAX, Registry, Version, checked_key
from shardy_common.wire import events as ev
from shardy_gateway.api.common import Caller, only, operator, read_json, state_of
from shardy_gateway.state import GatewayState
from shardy_gateway.verifier_rules import decide_register, decide_revoke, decide_rotate, text_of
from shardy_gateway.verifiers import Event, append_of, listed, shown

router = APIRouter()
BODY_BYTES_MAX = 64 * 1024
GRACE_S = 600
UNPACKED_MAX = 1 << 30
_TRIES = 20
Decide = Callable[[Registry], Event | None]


@router.get("/v1/verifiers", tags=["verifiers"])
async def list_verifiers(
    request: Request,
    _who: Annotated[Caller, Depends(operator)],
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before")] = "",
    circuit: Annotated[str, Query(max_length=128, description="versions of this circuit only")] = "",
) -> dict[str, Any]:
    """Verification keys by circuit, the oldest first: which is active, and until when another still counts."""
    state = state_of(request)
    found, now_ms = listed(state.views.verifiers.registry, circuit), state.log.now_ms()
    if after:
        place = next((place for place, version in enumerate(found, 1) if version.version == after), None)
        if place is None:
            raise Refused("after names no version of this list", title="Bad cursor")
        found = found[place:]
    page = found[:limit]
    shown_ = [shown(version, now_ms) for version in page]
    return {"verifiers": shown_, "next": page[-1].version if len(found) > limit else None}


@router.get("/v1/verifiers/{version}", tags=["verifiers"])
async def get_verifier(request: Request, version: str, _who: Annotated[Caller, Depends(operator)]) -> dict[str, Any]:
    """A version with its verification key, as canonical JSON text."""
    state = state_of(request)
    known = state.views.verifiers.registry.versions.get(version) if ids.is_token(version) else None
    if known is None:
        raise Refused("no version of this name is registered", status=404, title="No such verifier")
    return {**shown(known, state.log.now_ms()), "vk": state.views.verifiers.key_of(version) or None}


@router.post("/v1/verifiers", tags=["verifiers"], status_code=201)
async def register_verifier(request: Request, who: Annotated[Caller, Depends(operator)]) -> JSONResponse:
    """Register a verification key as a version of a circuit. It is active once it is rotated to."""
    state = state_of(request)
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "circuit", "version", "shape", "vk", "dev", "files")
    circuit, version, shape = _text(body, "circuit"), _text(body, "version"), body.get("shape")
    if not isinstance(shape, list) or len(shape) != 3 or any(type(side) is not int for side in shape):
        raise Refused("shape is a list of three whole numbers: m, k, n")
    dev = False if body.get("dev") is None else body["dev"]
    if type(dev) is not bool:
        raise Refused("dev is true or false")
    try:
        key = checked_key(body.get("vk"))
        await asyncio.to_thread(_points_checked, key.vk)
    except ValueError as error:
        raise Refused(f"vk: {error}") from None
    key, (m, k, n), development = key._replace(dev=key.dev or dev), shape, state.settings.development
    files = _files(state, body["files"], circuit, (m, k, n)) if body.get("files") is not None else None

    def decide(registry: Registry) -> Event | None:
        return decide_register(registry, circuit, version, (m, k, n), key, who.key, development, files)

    event = await _change(state, decide)
    return JSONResponse(_shown(state, version), 200 if event is None else 201)


@router.post("/v1/verifiers/rotate", tags=["verifiers"])
async def rotate_active_verifier_version(request: Request, who: Annotated[Caller, Depends(operator)]) -> dict[str, Any]:
    """Make a version the active one of its circuit, in one event. What was leased before under the former one is
    accepted for `grace_s` more."""
    state = state_of(request)
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "circuit", "version", "grace_s")
    circuit, version, grace_s = _text(body, "circuit"), _text(body, "version"), body.get("grace_s")
    grace_s = GRACE_S if grace_s is None else grace_s
    if type(grace_s) is not int or not 0 <= grace_s * 1000 <= GRACE_MS_MAX:
        raise Refused(f"grace_s is a whole number of seconds, 0 to {GRACE_MS_MAX // 1000}")
    grace_ms, development = grace_s * 1000, state.settings.development

    def decide(registry: Registry) -> Event | None:
        now_ms = state.log.now_ms()
        return decide_rotate(registry, circuit, version, grace_ms, now_ms, who.key, development)

    done = await _change(state, decide)
    assert isinstance(done, ev.VerifierRotated)
    former = {"former": done.former or None, "grace_until_ms": done.grace_until_ms if done.former else None}
    return {"circuit": circuit, "version": version, **former}


@router.post("/v1/verifiers/revoke", tags=["verifiers"])
async def revoke_verifier(request: Request, who: Annotated[Caller, Depends(operator)]) -> dict[str, Any]:
    """Revoke a version for good: from this event on nothing is accepted under it. A successor takes the place of an
    active one in the same event."""
    state = state_of(request)
    body = await read_json(request, BODY_BYTES_MAX)
    only(body, "version", "successor", "why")
    version, why = _text(body, "version"), _text(body, "why")
    successor = _text(body, "successor") if body.get("successor") is not None else ""
    development = state.settings.development

    def decide(registry: Registry) -> Event | None:
        return decide_revoke(registry, version, successor, why, who.key, development)

    await _change(state, decide)
    return _shown(state, version)


def _points_checked(vk: str) -> None:
    """ValueError for points off their curves or outside their groups: under such a key nothing could be verified."""
    from shardy_common.proofs.verifier import Verifier  # only here: a gateway starts without it

    Verifier().add_key(parse_vkey(vk.encode()))


def _files(state: GatewayState, files: Any, circuit: str, shape: tuple[int, int, int]) -> ev.ProverFiles:
    """What workers prove with: gzip files in the store. Workers pack their inputs by the circuit's name."""
    try:
        named = Circuit.named(circuit)
    except ValueError:
        named = None
    if named is None or (named.m, named.k, named.n) != shape:
        wanted = f"v2-{text_of(shape)}"
        raise Refused(f"workers prove in circuits named by their shape: with files this one is called {wanted}")
    if not isinstance(files, dict) or set(files) != {"zkey", "r1cs"}:
        raise Refused("files has zkey and r1cs, each with digest and unpacked")
    found: list[str | int] = []
    for name in ("zkey", "r1cs"):
        file = files[name]
        digest = file.get("digest") if isinstance(file, dict) else None
        unpacked = file.get("unpacked") if isinstance(file, dict) else None
        if not isinstance(digest, str) or not ids.is_digest(digest):
            raise Refused(f"files.{name}.digest is 64 lower-case hex digits: the BLAKE3 of the packed file")
        if type(unpacked) is not int or not 0 < unpacked <= UNPACKED_MAX:
            raise Refused(f"files.{name}.unpacked is the file's bytes before packing, at most {UNPACKED_MAX}")
        size = state.blobs.size(digest)
        if size is None:
            raise Refused(f"files.{name}: no such blob is stored; PUT it to /v1/blobs/{{digest}} first", status=409,
                          title="Missing blob")  # fmt: skip
        if state.blobs.read(digest, 0, 2) != b"\x1f\x8b":
            raise Refused(f"files.{name} is stored, and is no gzip file")
        found += [digest, size, unpacked]
    return ev.ProverFiles(*found)  # type: ignore[arg-type]


async def _change(state: GatewayState, decide: Decide) -> Event | None:
    """The event by which it was done, once it is folded here; None where nothing was to be done.

    Changes of a circuit are decided one after the other: each names the last one that it has seen, and the loser of a
    race is decided again by what won.
    """
    for _ in range(_TRIES):
        registry = state.views.verifiers.registry
        event = decide(registry)
        if event is None:
            return None
        circuit, seq = event.circuit, registry.seqs.get(event.circuit, 0)
        outcome = await state.append(append_of(event, registry))
        if not isinstance(outcome, Appended):
            await _folded(state, circuit, seq + 1, 1.0)
        elif not await _folded(state, circuit, outcome.seq, 10.0):
            raise Transient("it is recorded, and not yet visible here: ask for the list", retry_ms=1000)
        elif not isinstance(event, ev.VerifierRegistered) or _took(state, event, outcome.seq):
            return event  # else another circuit has claimed the version before: decided again, in words
    raise Transient("others changed this circuit all the while, and nothing was recorded: try again")


async def _folded(state: GatewayState, circuit: str, seq: int, wait_s: float) -> bool:
    """Wait until something of the circuit at seq or later was folded here."""
    for _ in range(int(wait_s * 100)):
        if state.views.verifiers.registry.seqs.get(circuit, 0) >= seq:
            return True
        await asyncio.sleep(0.01)
    return False


def _took(state: GatewayState, event: ev.VerifierRegistered, seq: int) -> bool:
    known = state.views.verifiers.registry.versions.get(event.version)
    return known is not None and known.seq == seq


def _shown(state: GatewayState, version: str) -> dict[str, Any]:
    known: Version = state.views.verifiers.registry.versions[version]
    return shown(known, state.log.now_ms())


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Refused(f"{name} is text, and wanted here")
    return value
