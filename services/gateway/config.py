"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from shardy_common.config import Settings


class GatewaySettings(Settings):
    """api_keys_file: one SHA-256 (hex) of an API key a line. host is loopback unless somebody says otherwise.

    trusted_proxies: addresses whose X-Forwarded-For is believed, with commas; replicas go to different addresses, so
    nobody else may say where a worker is. mesh_key_file: the Ed25519 key (PEM) that signs receipts, the same for all
    gateways of a mesh.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    api_keys_file: Path = Path(".data/api_keys")
    mesh_key_file: Path | None = None
    static_dir: Path = Path(__file__).parent / "static"
    allow_same_address: bool = False
    trusted_proxies: str = ""
    probe_memory_mib_max: int = 2048
