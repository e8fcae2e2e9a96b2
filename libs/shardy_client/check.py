"""One thing that `doctor` looks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True, frozen=True)
class Check:
    """needed: the mesh does not run without it. remedy: how to get it, where it is missing."""

    name: str
    ok: bool
    needed: bool
    detail: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """As a map."""
        return asdict(self)
