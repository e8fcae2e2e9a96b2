"""What may be done to a ceremony (shardy_common/ceremony): a command and what is known give an event, nothing to do, or
a refusal. Pure."""

from __future__ import annotations

import re

from shardy_common import ids
from shardy_common.ceremony.transcript import (
    CIRCUITS_MAX,
    CONTRIBUTIONS_MAX,
    CONTRIBUTIONS_MIN,
    RUNS_MAX,
    Ceremonies,
    Contribution,
    Run,
)
from shardy_common.errors import Refused
from shardy_common.wire import events as ev

CIRCUIT_CHARS_MAX = 64
NAME_BYTES_MAX = 64
WHY_CHARS_MAX = 500
ITERATIONS_MIN, ITERATIONS_MAX = 10, 42
_HASH = re.compile(r"[0-9a-f]{128}\Z")
_BEACON = re.compile(r"([0-9a-f]{2}){32,255}\Z")
_POWERS = re.compile(r"[A-Za-z0-9_.-]{0,64}\Z")
_NOT_READY = "Ceremony is not ready"


def decide_start(
    known: Ceremonies, circuit: str, r1cs: str, ptau: str, powers: str, zkey: str, again: bool, by: str
) -> ev.CeremonyStarted | None:
    """None: the newest run began like this, and nobody has contributed yet. again: takes the place of what is there."""
    if not ids.is_token(circuit) or len(circuit) > CIRCUIT_CHARS_MAX:
        raise Refused(f"circuit has 1 to {CIRCUIT_CHARS_MAX} letters, digits, - and _")
    _digests(r1cs=r1cs, zkey=zkey)
    if _HASH.match(ptau) is None:
        raise Refused("ptau is the BLAKE2b-512 of the powers of tau, as 128 lower-case hex digits")
    if _POWERS.match(powers) is None:
        raise Refused("powers is the name under which the powers of tau were published, or empty")
    former = known.current.get(circuit)
    if former is None:
        if len(known.current) >= CIRCUITS_MAX:
            raise _too_many(f"{CIRCUITS_MAX} circuits have ceremonies", f"{CIRCUITS_MAX} circuits")
        return ev.CeremonyStarted(circuit, 1, r1cs, ptau, powers, zkey, by)
    if (former.r1cs, former.ptau, former.zkey, former.by) == (r1cs, ptau, zkey, by) and former.head == zkey:
        return None
    if not again:
        raise Refused(
            f"run {former.run} of {circuit} is {former.state}, with {len(former.contributions)} contributions:"
            " say `again` to put a new run in its place",
            status=409,
            title="Ceremony is running",
        )
    if former.run >= RUNS_MAX:
        raise _too_many(f"{circuit} had {RUNS_MAX} runs: go on under another name", f"{RUNS_MAX} runs of a circuit")
    return ev.CeremonyStarted(circuit, former.run + 1, r1cs, ptau, powers, zkey, by)


def decide_contribute(
    known: Ceremonies, circuit: str, run: int, name: str, shown: str, base: str, zkey: str, by: str
) -> ev.CeremonyContributed | None:
    """None: it is recorded like this. shown: the hash that its contributor saw. base: the key that it began with."""
    _step(shown, base, zkey)
    name = _named(name)
    found = _open(known, circuit, run, zkey, shown)
    if isinstance(found, Contribution):
        return None
    if found.head != base:
        raise _moved_on(found, base)
    if any(one.contributor == name for one in found.contributions):
        raise Refused(f"{name} has contributed to this run: a name counts once, so another is wanted")
    if len(found.contributions) >= CONTRIBUTIONS_MAX:
        raise _too_many(
            f"run {run} has {CONTRIBUTIONS_MAX} contributions: seal it", f"{CONTRIBUTIONS_MAX} contributions"
        )
    return ev.CeremonyContributed(circuit, run, len(found.contributions) + 1, name, shown, base, zkey, by)


def decide_seal(
    known: Ceremonies, circuit: str, run: int, beacon: str, iterations: int, shown: str, base: str, zkey: str, by: str
) -> ev.CeremonySealed | None:
    """None: it is sealed like this."""
    _step(shown, base, zkey)
    if _BEACON.match(beacon) is None:
        raise Refused("beacon is 32 to 255 bytes in lower-case hex")
    if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
        raise Refused(f"iterations is {ITERATIONS_MIN} to {ITERATIONS_MAX}: the beacon is hashed 2^iterations times")
    last = run_of(known, circuit, run).beacon
    if last is not None and (last.value, last.zkey, last.hash) == (beacon, zkey, shown):
        return None
    found = _open(known, circuit, run)
    assert isinstance(found, Run)
    if found.head != base:
        raise _moved_on(found, base)
    if len(found.contributions) < CONTRIBUTIONS_MIN:
        raise Refused(
            f"{len(found.contributions)} have contributed: the beacon comes after {CONTRIBUTIONS_MIN} or more",
            status=409,
            title=_NOT_READY,
        )
    return ev.CeremonySealed(circuit, run, beacon, iterations, shown, base, zkey, by)


def decide_verified(
    known: Ceremonies, circuit: str, run: int, zkey: str, good: bool, fault: int, why: str, by: str
) -> ev.CeremonyVerified | None:
    """None: this key has said so. The word of one key stands once, the newest."""
    _digests(zkey=zkey)
    found = run_of(known, circuit, run)
    if found.head != zkey:
        raise _moved_on(found, zkey)
    steps = len(found.contributions) + (found.beacon is not None)
    if not 0 <= fault <= steps or (good and (fault or why)):
        raise Refused(f"fault is 0 (the start) to {steps}, and 0 without a `why` where all is good")
    if not good and not 1 <= len(why.strip()) <= WHY_CHARS_MAX:
        raise Refused(f"say why it is not good, in 1 to {WHY_CHARS_MAX} characters")
    said = found.check_of(by)
    if said is not None and (said.good, said.fault, said.why) == (good, fault, why.strip()):
        return None
    return ev.CeremonyVerified(circuit, run, zkey, good, fault, why.strip(), by)


def decide_finish(
    known: Ceremonies, circuit: str, run: int, zkey: str, vk_hash: str, by: str
) -> ev.CeremonyFinished | None:
    """None: it is finished so. Whoever finishes has verified: with the same API key, and found all good."""
    _digests(zkey=zkey, vk_hash=vk_hash)
    found = run_of(known, circuit, run)
    if found.state == "finished" and (found.head, found.vk_hash) == (zkey, vk_hash):
        return None
    if found.state != "sealed":
        raise Refused(
            f"run {run} of {circuit} is {found.state}: only a sealed one can be finished", status=409, title=_NOT_READY
        )
    if found.head != zkey:
        raise _moved_on(found, zkey)
    check = found.check_of(by)
    if check is None or not check.good:
        raise Refused(
            "your key has not found this run good: verify it first, and say so with the same API key",
            status=409,
            title=_NOT_READY,
        )
    return ev.CeremonyFinished(circuit, run, zkey, vk_hash, by)


def run_of(known: Ceremonies, circuit: str, run: int) -> Run:
    """The newest run, which must be the one that is meant."""
    found = known.current.get(circuit)
    if found is None:
        raise no_such(circuit)
    if run > found.run or run < 1:
        raise Refused(f"{circuit} has no run {run}: its newest is {found.run}", status=404, title="No such ceremony")
    if run < found.run:
        raise Refused(
            f"run {run} of {circuit} was given up for run {found.run}: begin there",
            status=409,
            title="Ceremony has moved on",
        )
    return found


def no_such(circuit: str) -> Refused:
    name = circuit[:CIRCUIT_CHARS_MAX]
    return Refused(f"circuit {name} has no ceremony", status=404, title="No such ceremony")


def _open(known: Ceremonies, circuit: str, run: int, zkey: str = "", shown: str = "") -> Run | Contribution:
    """The run, if it still takes contributions; or the one that made this key, which stands there already."""
    found = run_of(known, circuit, run)
    same = next((one for one in found.contributions if (one.zkey, one.hash) == (zkey, shown)), None)
    if same is not None:
        return same
    if found.state != "open":
        raise Refused(
            f"run {run} of {circuit} is {found.state}: it takes no further contribution",
            status=409,
            title="Ceremony has moved on",
        )
    return found


def _moved_on(run: Run, base: str) -> Refused:
    steps = run.contributions
    after = next((one for one in steps if one.base == base), None)
    who = f"contribution {after.number} of {after.contributor} built on that key before" if after else "that is not it"
    return Refused(
        f"the newest key of run {run.run} is {run.head}, and {who}: begin again on the newest",
        status=409,
        title="Ceremony has moved on",
    )


def _named(name: str) -> str:
    name = name.strip()
    if not name or len(name.encode()) > NAME_BYTES_MAX or not name.isprintable():
        raise Refused(f"name has 1 to {NAME_BYTES_MAX} bytes of printable text")
    return name


def _step(shown: str, base: str, zkey: str) -> None:
    _digests(base=base, zkey=zkey)
    if _HASH.match(shown) is None:
        raise Refused("hash is that of the contribution, as 128 lower-case hex digits")
    if base == zkey:
        raise Refused("zkey is the key that the step made, and not the one that it began with")


def _digests(**named: str) -> None:
    for name, value in named.items():
        if not ids.is_digest(value):
            raise Refused(f"{name} is a BLAKE3 digest: 64 lower-case hex digits")


def _too_many(detail: str, limit: str) -> Refused:
    return Refused(detail, status=409, title="Too many ceremonies", limit=limit)
