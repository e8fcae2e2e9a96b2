"""What a gateway lets in: calls by key, failed keys and worker sockets by address, and bytes by key."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from shardy_common.errors import Refused
from shardy_gateway.config import GatewaySettings
from shardy_gateway.rates import Buckets, Rate, Taken, policy_item, retry_after

TRIES_PER_LEASE_MAX, TRIES_KNOWN_MAX = 8, 50_000
HANDSHAKES_MAX = 512  # sockets that may be joining while the gateway is full


@dataclass(frozen=True, slots=True)
class Barred:
    """A socket that is not let in: close code, words, and when to come back."""

    code: int
    reason: str
    retry_ms: int


class Gates:
    """An address is the connection's, or the one that a trusted proxy names. Times are seconds of a steady clock."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.requests = Buckets(Rate(settings.requests_per_s, settings.requests_burst))
        self.uploads = Buckets(Rate(settings.upload_bytes_per_h / 3600, settings.upload_bytes_per_h))
        self.failed = Buckets(Rate(settings.failed_auth_per_min / 60, settings.failed_auth_burst))
        self.joins = Buckets(Rate(settings.joins_per_s, settings.joins_burst))
        self.keys = Buckets(Rate(settings.joins_per_key_per_min / 60, settings.joins_per_key_burst))
        self.sockets: Counter[str] = Counter()  # open worker sockets by address
        self.streams = Slots(settings.streams_per_key_max, settings.streams_max)  # open event streams by key
        self.waits = Slots(settings.waits_per_key_max, settings.waits_max)  # calls that wait for a job's end
        self.bodies = Slots(settings.bodies_per_key_max, settings.bodies_max)  # bodies on their way in
        self.tries: OrderedDict[str, int] = OrderedDict()  # uploads of a result, by lease
        self.policy = ", ".join(
            (
                policy_item("requests", int(settings.requests_per_s), 1),
                policy_item("upload", settings.upload_bytes_per_h, 3600),
            )
        ).encode()

    def shown(self) -> dict[str, int]:
        """The limits of a key, for GET /v1/mesh."""
        return {
            "requests_per_s": int(self.settings.requests_per_s),
            "requests_burst": self.settings.requests_burst,
            "upload_bytes_per_h": self.settings.upload_bytes_per_h,
            "streams_per_key_max": self.settings.streams_per_key_max,
            "waits_per_key_max": self.settings.waits_per_key_max,
            "bodies_per_key_max": self.settings.bodies_per_key_max,
            "jobs_per_requester_max": self.settings.jobs_per_requester_max,
        }

    def call(self, key: str, now_s: float) -> Taken:
        return self.requests.take(key, now_s)

    def upload(self, key: str, count: int, now_s: float) -> None:
        """Count bytes that a key sends. Refused with 429 when the hour's share is used up."""
        taken = self.uploads.take(key, now_s, count)
        if not taken.ok:
            raise too_many(
                f"this key has sent {self.settings.upload_bytes_per_h} bytes within an hour",
                f"{self.settings.upload_bytes_per_h} bytes an hour",
                taken,
            )

    def failed_auth(self, address: str, now_s: float) -> None:
        """Count a call without a valid key. A valid key is let in whatever its neighbours do: keys are too long to be
        guessed, so what this saves is work, and it must not let one address's strangers lock out its users."""
        taken = self.failed.take(address, now_s)
        if not taken.ok:
            raise too_many(
                "too many calls without a valid API key from your address",
                f"{self.settings.failed_auth_per_min:g} a minute",
                taken,
            )

    def join(self, address: str, now_s: float) -> Barred | None:
        """Why another worker socket of this address is not let in, and when to come back; None if it is."""
        held = self.settings.sessions_per_address_max
        if self.sockets[address] >= held:
            return Barred(4429, f"an address may hold {held} worker sockets open, and yours does", 30_000)
        if self.sockets.total() >= self.settings.sessions_max + HANDSHAKES_MAX:
            return Barred(1012, "as many workers are joining here as may: try another gateway, or later", 10_000)
        taken = self.joins.take(address, now_s)
        if not taken.ok:
            words = f"an address may open {self.settings.joins_per_s:g} worker sockets a second: try again later"
            return Barred(4429, words, 1_000 * int(retry_after(taken)))
        return None

    def join_of(self, worker: str, now_s: float) -> Barred | None:
        """The same for a key that has proven itself: each join is four events of the log."""
        taken = self.keys.take(worker, now_s)
        if taken.ok:
            return None
        words = f"a key may join {self.settings.joins_per_key_per_min:g} times a minute: try again later"
        return Barred(4429, words, 1_000 * int(retry_after(taken)))

    def opened(self, address: str) -> None:
        self.sockets[address] += 1

    def closed(self, address: str) -> None:
        _release(self.sockets, address)

    def open_stream(self, key: str) -> None:
        if not self.streams.take(key):
            raise Refused(
                f"{self.streams.why(key)} event streams are open: close some",
                status=429,
                title="Too many streams",
                limit=f"{self.streams.each} event streams",
                retry_s=5,
            )

    def close_stream(self, key: str) -> None:
        self.streams.release(key)

    def result_upload(self, lease: str) -> None:
        """A result is about to be uploaded for this lease: again after a break, but not for ever."""
        count = self.tries.pop(lease, 0) + 1
        self.tries[lease] = count
        while len(self.tries) > TRIES_KNOWN_MAX:
            self.tries.popitem(last=False)
        if count > TRIES_PER_LEASE_MAX:
            raise Refused(
                f"{TRIES_PER_LEASE_MAX} results were uploaded for this lease",
                status=429,
                title="Too many uploads",
                limit=f"{TRIES_PER_LEASE_MAX} uploads",
                retry_s=60,
            )

    @contextlib.contextmanager
    def body(self, key: str) -> Iterator[None]:
        """A body is on its way in. 429 when too many are."""
        if not self.bodies.take(key):
            raise Refused(
                f"{self.bodies.why(key)} bodies are being received: send fewer at once",
                status=429,
                title="Too many bodies",
                limit=f"{self.bodies.each} bodies at once",
                retry_s=1,
            )
        try:
            yield
        finally:
            self.bodies.release(key)


def too_many(detail: str, limit: str, taken: Taken) -> Refused:
    wait = int(retry_after(taken))
    return Refused(f"{detail}: come back in {wait} s", status=429, title="Too many requests", limit=limit, retry_s=wait)


def _release(counts: Counter[str], name: str) -> None:
    """Names that hold nothing take no memory."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]


class Slots:
    """What may be held at once: by one name, and by all."""

    def __init__(self, each: int, most: int) -> None:
        self.each, self.most, self.held = each, most, 0
        self.by_name: Counter[str] = Counter()

    def take(self, name: str) -> bool:
        if self.held >= self.most or self.by_name[name] >= self.each:
            if not self.by_name[name]:
                del self.by_name[name]
            return False
        self.by_name[name] += 1
        self.held += 1
        return True

    def release(self, name: str) -> None:
        self.held -= 1
        _release(self.by_name, name)

    def why(self, name: str) -> str:
        return f"{self.each} of this key's" if self.by_name[name] >= self.each else f"{self.most} of this gateway's"
