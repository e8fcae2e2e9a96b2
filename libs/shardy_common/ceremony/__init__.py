"""How keys come about whose randomness nobody holds, as the log tells it (docs/ceremony.md)."""

from shardy_common.ceremony.fold import FILTERS, TABLES, CeremonyFold
from shardy_common.ceremony.transcript import CONTRIBUTIONS_MIN, STATES, Beacon, Ceremonies, Check, Contribution, Run

__all__ = [
    "CONTRIBUTIONS_MIN",
    "FILTERS",
    "STATES",
    "TABLES",
    "Beacon",
    "Ceremonies",
    "CeremonyFold",
    "Check",
    "Contribution",
    "Run",
]
