"""Words that the shapes of the API share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from shardy_common import kinds
from shardy_gateway.lookups import JOB_STATES

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="BLAKE3 in hex", examples=["af" * 32])]
Ms = Annotated[int, Meta(description="Unix milliseconds", examples=[1767225600000])]
Count = Annotated[int, Meta(ge=0)]
Next = Annotated[str | None, Meta(description="the cursor of the next page; null at the end", examples=[None])]
State = Annotated[str, Meta(extra_json_schema={"enum": list(JOB_STATES)})]
Kind = Annotated[str, Meta(extra_json_schema={"enum": list(kinds.KINDS)})]
Policy = Annotated[str, Meta(extra_json_schema={"enum": list(kinds.POLICIES)})]
Dtype = Annotated[str, Meta(extra_json_schema={"enum": list(kinds.ITEM_BYTES)})]


class Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Nothing but the fields named here."""
