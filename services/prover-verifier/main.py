"""Entry point of the prover-verifier: the registry of verification keys on the log, asked over the control plane."""

from __future__ import annotations

from shardy_common import run
from shardy_common.config import Settings
from shardy_common.log import JetStreamLog, Projection
from shardy_common.service import FoldLoop
from shardy_prover_verifier.registry import TABLES, VERSION, Registry


async def build(settings: Settings, event_log: JetStreamLog) -> FoldLoop:
    projection = Projection(settings.projection_path("prover-verifier"), TABLES, version=VERSION)
    return FoldLoop("prover-verifier", event_log, projection, Registry, tick_s=1.0)


def main() -> None:
    run.main("prover-verifier", Settings(), build)


if __name__ == "__main__":
    main()
