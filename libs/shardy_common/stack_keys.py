"""The API keys of a one-machine stack."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

KEY_FILES = {"submit": "api_key", "operate": "operator_key"}


def ensure_keys(data_dir: Path) -> tuple[dict[str, str], bool]:
    """The keys of a one-machine stack by scope, and whether they were made just now: kept with mode 600 for the
    commands of this machine, and hashed for the gateway."""
    keys, fresh, lines = {}, False, []
    for scope, name in KEY_FILES.items():
        path = data_dir / name
        if not path.exists():
            fresh = True
            path.touch(mode=0o600)
            path.write_text("shardy_" + secrets.token_urlsafe(24) + "\n")
        keys[scope] = path.read_text().strip()
        lines.append(f"{hashlib.sha256(keys[scope].encode()).hexdigest()} {scope}  # made by shardy up\n")
    (data_dir / "api_keys").write_text("".join(lines))
    return keys, fresh
