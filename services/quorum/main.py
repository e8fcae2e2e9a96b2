"""Entry point of the quorum."""

from __future__ import annotations

from shardy_common import run
from shardy_common.config import Settings
from shardy_quorum.app import build


def main() -> None:
    run.main("quorum", Settings(), build)


if __name__ == "__main__":
    main()
