"""Entry point of the matchmaker."""

from __future__ import annotations

from shardy_common import run
from shardy_matchmaker.app import build
from shardy_matchmaker.config import MatchmakerSettings


def main() -> None:
    run.main("matchmaker", MatchmakerSettings(), build)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
