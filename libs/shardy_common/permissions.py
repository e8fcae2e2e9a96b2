"""Who may say what on the log's server: the one table from which its configuration and docs/subjects.md are made.

A role is a service, or `operator`: the commands of whoever runs the mesh. Each has a key of its own, appends its own
events only, reads through consumers whose names are its own, and hears nothing but the log, its inbox and its part of
the control plane. What a stolen key of a service can and cannot do: docs/threat-model.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from shardy_common.wire import subjects

OPERATOR = "operator"
RECORDED = "dlq.recorded"  # every service writes a dead letter for bytes that it cannot read
EMITS: dict[str, tuple[str, ...]] = {
    "gateway": (
        *("job.submitted", "job.cancelled", "job.reopened"),
        *("worker.joined", "worker.left", "result.submitted", "result.failed", "gateway.started", "proof.submitted"),
        *("dlq.replayed", "dlq.discarded", "mesh.keyed", "key.issued", "key.revoked", RECORDED),
        *("verifier.registered", "verifier.rotated", "verifier.revoked"),
        *("ceremony.started", "ceremony.contributed", "ceremony.sealed", "ceremony.verified", "ceremony.finished"),
    ),
    "matchmaker": (
        *("task.created", "task.assigned", "task.expired", "task.unresolved", "worker.tiered"),
        *("job.completed", "job.failed", RECORDED),
    ),
    "quorum": (
        *("task.verified", "task.disputed", "fraud.detected", "canary.prepared", "proof.reaudited"),
        *("job.submitted", "job.cancelled", RECORDED),  # the first two for canaries
    ),
    "dlq": (RECORDED, "dlq.replayed"),
    "prover-verifier": ("proof.challenged", "proof.verified", "proof.rejected", RECORDED),
    "gossip-bridge": (RECORDED,),
}
SERVICES = tuple(EMITS)
ROLES = (*SERVICES, OPERATOR)
READERS_MAX = 32  # of one role at a time; the server's permissions know no prefixes, so the names are counted out


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects, with wildcards; whatever is not here is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def emitters(event_name: str) -> list[str]:
    """The services that may append this event."""
    return [service for service, events in EMITS.items() if event_name in events]


def inbox(role: str) -> str:
    """The prefix of a role's reply subjects: nobody else hears what is answered there."""
    return f"_INBOX_{role}"


def reader_name(role: str, number: int) -> str:
    """Name of a consumer."""
    return f"{role}-r{number:02}"


def again(service: str) -> str:
    """On this a gateway asks a service to append an event of its own once more, out of a dead letter (again.py)."""
    return subjects.control(service, "again")


def permissions(role: str) -> Permissions:
    """Of one role. KeyError for one that does not exist."""
    heard = (f"{inbox(role)}.>", f"_DELIVER.{role}.>")
    if role == OPERATOR:
        return Permissions(
            ("$JS.API.>", "$JS.FC.>", "$JS.ACK.>", "$JS.SNAPSHOT.>", "ctl.>", f"{inbox(role)}.>"), (*heard, "ctl.>")
        )
    said = [subjects.of_kind(event) for event in EMITS[role]]
    said += [subjects.control(role, ">"), f"{inbox(role)}.>"]
    said += [f"{inbox(asks)}.>" for asks in (OPERATOR, "gateway") if asks != role]  # answers to whoever may ask
    said += _reading(role, subjects.STREAM)
    said.append(f"$JS.API.STREAM.MSG.GET.{subjects.STREAM}")  # is this the log that my rows were folded from?
    if role == "dlq":
        said += _reading(role, subjects.ADVISORIES)
    if role == "gateway":
        said += [again(service) for service in SERVICES if service != role and set(EMITS[service]) - set(EMITS[role])]
        # how far each replica is, and that one folds anew, for a dead letter that it answers
        others = [service for service in SERVICES if service != role]
        said += [subjects.control(service, verb) for service in others for verb in ("status", "rebuild.*")]
        said.append(f"$JS.API.DIRECT.GET.{subjects.STREAM}")  # pages of the log, many messages a request
        # a dead letter of a consumer is replayed by making that consumer anew, whatever its name
        said += [f"$JS.API.CONSUMER.{v}.{subjects.STREAM}.*" for v in ("INFO", "CREATE", "DURABLE.CREATE", "DELETE")]
    return Permissions(tuple(said), (*heard, subjects.control(role, ">")))


def _reading(role: str, stream: str) -> list[str]:
    """What the reader of a stream says: about the stream, and about consumers under this role's names."""
    found = [f"$JS.API.STREAM.INFO.{stream}"]
    for number in range(READERS_MAX):
        name = reader_name(role, number)
        found += [f"$JS.API.CONSUMER.CREATE.{stream}.{name}", f"$JS.API.CONSUMER.DELETE.{stream}.{name}"]
        found.append(f"$JS.FC.{stream}.{name}.>")
    return found
