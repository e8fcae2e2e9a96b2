"""The registry of verification keys, as this service keeps it (shardy_common/verifiers). Checking of proofs is not part
of this service yet; jobs with a policy that needs it are refused by the gateway."""

from __future__ import annotations

from shardy_common.verifiers import TABLES, VerifierFold
from shardy_common.verifiers.fold import FILTERS

__all__ = ["TABLES", "VERSION", "Registry"]
VERSION = 2


class Registry(VerifierFold):
    filters = FILTERS
