"""What a circuit asks of who proves in it: an estimate from its shape, so that nobody is lent what it cannot prove.

The memory is fitted to what one instance took at its peak in Chromium and in Node, key and all: 100, 125, 200, 550 and
310 MiB for 8, 16, 32, 64 square and 8×384×8 (web-worker/src/prove/needs.ts). Python takes less.
"""

from __future__ import annotations

from shardy_common.proofs.signals import ROWS_PACKED, WORD_BYTES, Circuit

_HASHED = 42  # constraints for each number that is hashed
_BASE_MIB = 95
_KIB_EACH = 5.4  # the key takes 1.1 KiB a constraint; the rest are copies, and what a runtime has not given back yet


def constraints(circuit: Circuit) -> int:
    """About so many: 6 to 9 % too few from 32×32×32 on, and up to 43 % below, where what is fixed counts for more.
    circuits/constraints.json has the right ones; this is for circuits that nobody has compiled yet."""
    groups, k, n = circuit.m // ROWS_PACKED, circuit.k, circuit.n
    hashed = groups * (k + n) + -(-n * k // WORD_BYTES)
    return 8 * n * k + _HASHED * hashed + k * (n - 1) + groups * (k + n)


def prover_mib(circuit: Circuit) -> int:
    """Memory for one proof, key and all, in MiB."""
    return _BASE_MIB + round(_KIB_EACH * constraints(circuit) / 1024)
