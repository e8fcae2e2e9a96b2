"""What a circuit asks of who proves in it: an estimate from its shape, so that nobody is lent what it cannot prove."""

from __future__ import annotations

from shardy_common.proofs.signals import ROWS_PACKED, WORD_BYTES, Circuit

_HASHED = 42  # constraints for each number that is hashed
_BASE_MIB = 48
_KIB_EACH = 3.2  # three times a key, which takes 1.1 KiB a constraint


def constraints(circuit: Circuit) -> int:
    """About so many, within 3 % from 16×16×16 on (circuits/README.md says where they come from)."""
    groups, k, n = circuit.m // ROWS_PACKED, circuit.k, circuit.n
    hashed = groups * (k + n) + -(-n * k // WORD_BYTES)
    return 8 * n * k + _HASHED * hashed + k * (n - 1) + groups * (k + n)


def prover_mib(circuit: Circuit) -> int:
    """Memory for one proof, key and all, in MiB."""
    return _BASE_MIB + round(_KIB_EACH * constraints(circuit) / 1024)
