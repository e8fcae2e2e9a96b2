"""Entry point of the prover-verifier."""

from __future__ import annotations

from shardy_common import run
from shardy_common.config import Settings
from shardy_prover_verifier.app import build


def main() -> None:
    run.main("prover-verifier", Settings(), build)


if __name__ == "__main__":
    main()
