"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shardy_common import limits
from shardy_common.config import Settings


class GatewaySettings(Settings):
    """api_keys_file: a line for each key, `sha256hex [scope,scope] # comment`; no scopes: submit. host is loopback
    unless somebody says otherwise.

    mesh_key_file: what receipts are signed with (docs/receipts.md); mesh_key in data_dir, unless another is named.
    ceremony_dir: the page for contributors to ceremonies, no part of this package (docs/ceremony.md).
    trusted_proxies: addresses whose X-Forwarded-For is believed, with commas; replicas go to different addresses, so
    nobody else may say where a worker is. The limits for an address count by the address that is found so.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    api_keys_file: Path = Path(".data/api_keys")
    mesh_key_file: Path | None = None
    static_dir: Path = Path(__file__).parent / "static"
    ceremony_dir: Path | None = None
    allow_same_address: bool = False
    trusted_proxies: str = ""
    probe_memory_mib_max: int = 2048

    requests_per_s: float = Field(200, gt=0, description="calls a second of one API key, in the long run")
    requests_burst: int = Field(1_000, ge=1, description="calls of one API key at once")
    upload_bytes_per_h: int = Field(64 << 30, ge=1, description="bytes that one API key may send in an hour")
    streams_per_key_max: int = Field(64, ge=1, description="event streams that one API key may hold open")
    failed_auth_per_min: float = Field(20, gt=0, description="calls a minute of one address without a valid key")
    failed_auth_burst: int = Field(60, ge=1, description="of these, at once")
    joins_per_s: float = Field(10, gt=0, description="worker sockets a second that one address may open")
    joins_burst: int = Field(200, ge=1, description="of these, at once")
    sessions_per_address_max: int = Field(512, ge=1, description="worker sockets that one address may hold open")

    sessions_max: int = Field(5_000, ge=1, description="worker sockets that this gateway holds")
    joins_per_key_per_min: float = Field(12, gt=0, description="how often a minute one worker key may join")
    joins_per_key_burst: int = Field(30, ge=1, description="of these, at once")
    stall_s: float = Field(30, gt=0, description="seconds that a worker may leave a frame unread")
    streams_max: int = Field(2_000, ge=1, description="event streams open in all")
    waits_per_key_max: int = Field(512, ge=1, description="calls of one API key that wait for a job's end")
    waits_max: int = Field(4_000, ge=1, description="calls that wait in all")
    bodies_per_key_max: int = Field(64, ge=1, description="bodies that one API key may be sending at once")
    bodies_max: int = Field(256, ge=1, description="bodies being received in all")

    jobs_per_requester_max: int = Field(
        limits.JOBS_ACTIVE_PER_REQUESTER_MAX, ge=1, description="active jobs of one requester"
    )
    jobs_max: int = Field(20_000, ge=1, description="active jobs in all")
    backlog_s_max: float = Field(86_400, gt=0, description="seconds of work that may be queued for the devices here")
    lag_events_max: int = Field(100_000, ge=1, description="events that this gateway may be behind the log")
    appends_max: int = Field(10_000, ge=1, description="events that may wait for the log's answer")
    blob_bytes_max: int = Field(1 << 40, ge=1, description="bytes in the blob store beyond which uploads are refused")
    blob_free_bytes_min: int = Field(
        256 << 20, ge=0, description="free bytes that uploads leave on the disk; at most a 64th of a small one"
    )

    @property
    def mesh_key_path(self) -> Path:
        return self.mesh_key_file or self.data_dir / "mesh_key"
