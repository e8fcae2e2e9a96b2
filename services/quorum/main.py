"""Entry point of the quorum."""

from __future__ import annotations

from shardy_common import run
from shardy_quorum.app import build
from shardy_quorum.config import QuorumSettings


def main() -> None:
    run.main("quorum", QuorumSettings(), build)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
