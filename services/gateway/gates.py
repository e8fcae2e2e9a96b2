"""What a gateway lets in: calls by key, failed keys and worker sockets by address, and bytes by key."""

from __future__ import annotations

from collections import Counter

from shardy_common.errors import Refused
from shardy_gateway.config import GatewaySettings
from shardy_gateway.rates import Buckets, Rate, Taken, policy_item, retry_after


class Gates:
    """An address is the connection's, or the one that a trusted proxy names. Times are seconds of a steady clock."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.requests = Buckets(Rate(settings.requests_per_s, settings.requests_burst))
        self.uploads = Buckets(Rate(settings.upload_bytes_per_h / 3600, settings.upload_bytes_per_h))
        self.failed = Buckets(Rate(settings.failed_auth_per_min / 60, settings.failed_auth_burst))
        self.joins = Buckets(Rate(settings.joins_per_s, settings.joins_burst))
        self.sockets: Counter[str] = Counter()  # open worker sockets by address
        self.streams: Counter[str] = Counter()  # open event streams by key
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

    def join(self, address: str, now_s: float) -> str:
        """Why another worker socket of this address is not let in, naming the limit; empty if it is."""
        held = self.settings.sessions_per_address_max
        if self.sockets[address] >= held:
            return f"an address may hold {held} worker sockets open, and yours does"
        if not self.joins.take(address, now_s).ok:
            return f"an address may open {self.settings.joins_per_s:g} worker sockets a second: try again later"
        return ""

    def opened(self, address: str) -> None:
        self.sockets[address] += 1

    def closed(self, address: str) -> None:
        _release(self.sockets, address)

    def open_stream(self, key: str) -> None:
        most = self.settings.streams_per_key_max
        if self.streams[key] >= most:
            raise Refused(
                f"{most} event streams of this key are open: close some",
                status=429,
                title="Too many streams",
                limit=f"{most} event streams",
                retry_s=5,
            )
        self.streams[key] += 1

    def close_stream(self, key: str) -> None:
        _release(self.streams, key)


def too_many(detail: str, limit: str, taken: Taken) -> Refused:
    wait = int(retry_after(taken))
    return Refused(f"{detail}: come back in {wait} s", status=429, title="Too many requests", limit=limit, retry_s=wait)


def _release(counts: Counter[str], name: str) -> None:
    """Names that hold nothing take no memory."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
