"""Entry point of the dead letter queue."""

from __future__ import annotations

from shardy_common import run
from shardy_common.config import Settings
from shardy_dlq.app import build


def main() -> None:
    run.main("dlq", Settings(), build)


if __name__ == "__main__":
    main()
