"""Settings that every service shares, from the environment (SHARDY_…) with defaults for one machine."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """data_dir holds projections, blobs, and the archived part of the log, unless archive_dir names another folder for
    it. nats_url: of one server of the log, or of several with commas.

    nats_seed_file: the key of this service (an nkey's seed), for a server that knows each; otherwise nats_user and
    nats_password, where nats_password_file wins. nats_ca_file: who signs the server's certificate, for URLs of tls://.
    """

    model_config = SettingsConfigDict(env_prefix="SHARDY_", frozen=True)

    data_dir: Path = Path(".data")
    archive_dir: Path | None = None
    nats_url: str = "nats://127.0.0.1:4222"
    nats_user: str = ""
    nats_password: SecretStr = SecretStr("")
    nats_password_file: Path | None = None
    nats_seed_file: Path | None = None
    nats_ca_file: Path | None = None
    instance: str = Field(
        default="0",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="name of this replica: its projection file carries it; auto takes the first free slot",
    )
    log_level: str = "INFO"
    development: bool = Field(
        default=False, description="whether development keys of proofs are taken: anybody can forge proofs under them"
    )
    stream_replicas: int = 1
    log_bytes_max: int = Field(
        default=16 << 30, ge=1 << 16, description="bytes that the log may hold: it refuses what is over"
    )
    log_events_max: int = Field(
        default=0, ge=0, description="events that the log may hold; 0: as many as fit into the bytes"
    )

    @property
    def password(self) -> str:
        if self.nats_password_file is not None:
            return self.nats_password_file.read_text().strip()
        return self.nats_password.get_secret_value()

    @property
    def access(self) -> dict[str, Any]:
        """How the log lets us in: arguments of log.client.connect() and JetStreamLog.open()."""
        if self.nats_seed_file is not None:
            return {"seed_file": self.nats_seed_file, "ca_file": self.nats_ca_file}
        return {"user": self.nats_user, "password": self.password, "ca_file": self.nats_ca_file}

    def projection_path(self, service: str) -> Path:
        return self.data_dir / "projections" / f"{service}-{self.instance}.db"

    @property
    def archive_path(self) -> Path:
        return self.archive_dir or self.data_dir / "archive"

    @property
    def blob_dir(self) -> Path:
        return self.data_dir / "blobs"


def configure_logging(service: str, level: str) -> None:
    """One line an entry on standard error, with the service's name."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"%(asctime)s {service} %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for noisy in ("nats", "httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns at each TLS connection that the other side ends
