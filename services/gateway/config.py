"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shardy_common.config import Settings


class GatewaySettings(Settings):
    """api_keys_file: a line for each key, `sha256hex [scope,scope] # comment`; no scopes: submit. host is loopback
    unless somebody says otherwise.

    mesh_key_file: what receipts are signed with (docs/receipts.md); mesh_key in data_dir, unless another is named.
    trusted_proxies: addresses whose X-Forwarded-For is believed, with commas; replicas go to different addresses, so
    nobody else may say where a worker is. The limits for an address count by the address that is found so.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    api_keys_file: Path = Path(".data/api_keys")
    mesh_key_file: Path | None = None
    static_dir: Path = Path(__file__).parent / "static"
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

    @property
    def mesh_key_path(self) -> Path:
        return self.mesh_key_file or self.data_dir / "mesh_key"
