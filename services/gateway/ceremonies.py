"""Ceremonies, as the API shows and changes them."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from shardy_common.ceremony import FILTERS, TABLES, Beacon, Ceremonies, CeremonyFold, Contribution, Run
from shardy_common.log import Append
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_gateway.side import SideFold


class CeremonySide(CeremonyFold, SideFold):
    tables = TABLES
    filters = FILTERS


Event = (
    ev.CeremonyStarted | ev.CeremonyContributed | ev.CeremonySealed | ev.CeremonyVerified | ev.CeremonyFinished
)  # of a ceremony


def append_of(event: Event, known: Ceremonies) -> Append:
    """For a step that was decided by what is known: void if another step of the circuit is in the log by then."""
    circuit, seq = event.circuit, known.seqs.get(event.circuit, 0)
    msg_id = f"ceremony/{circuit}/{seq}/{blake3(ev.encode(event)).hexdigest()[:16]}"
    return Append(event, msg_id, seq, subjects.of_entity("ceremony", circuit))


def brief(run: Run) -> dict[str, Any]:
    """A line of the list."""
    return {
        "circuit": run.circuit,
        "run": run.run,
        "state": run.state,
        "contributions": len(run.contributions),
        "zkey": run.head,
        "powers": run.powers or None,
        "started_ms": run.at_ms,
        "finished_ms": run.finished_ms or None,
    }


def shown(run: Run) -> dict[str, Any]:
    """The transcript."""
    return {
        "circuit": run.circuit,
        "run": run.run,
        "state": run.state,
        "r1cs": run.r1cs,
        "ptau": run.ptau,
        "powers": run.powers or None,
        "start": run.zkey,
        "zkey": run.head,
        "started_by": run.by,
        "started_ms": run.at_ms,
        "contributions": [_contribution(one) for one in run.contributions],
        "beacon": None if run.beacon is None else _beacon(run.beacon),
        "checks": [
            {
                "by": check.by,
                "zkey": check.zkey,
                "good": check.good,
                "fault": None if check.good else check.fault,
                "why": check.why or None,
                "at_ms": check.at_ms,
            }
            for check in run.checks
        ],
        "vk_hash": run.vk_hash or None,
        "finished_by": run.finished_by or None,
        "finished_ms": run.finished_ms or None,
    }


def _contribution(one: Contribution) -> dict[str, Any]:
    return {
        "number": one.number,
        "name": one.contributor,
        "hash": one.hash,
        "base": one.base,
        "zkey": one.zkey,
        "by": one.by,
        "at_ms": one.at_ms,
    }


def _beacon(one: Beacon) -> dict[str, Any]:
    return {
        "value": one.value,
        "iterations": one.iterations,
        "hash": one.hash,
        "base": one.base,
        "zkey": one.zkey,
        "by": one.by,
        "at_ms": one.at_ms,
    }
