"""Every limit of the mesh that more than one service knows, in one place."""

from __future__ import annotations

K_MAX = 65_535  # keeps k·(−128)² under 2³¹ − 1 (protocol §4.1)
SIDE_MAX = 1_048_576
BLOB_BYTES_MAX = 1 << 30
INLINE_OPERAND_BYTES_MAX = 256 * 1024
RESULT_INLINE_BYTES_MAX = 256 * 1024
LABEL_CHARS_MAX = 200
AGENT_CHARS_MAX = 120
REDUNDANCY_FACTOR = 2
REDUNDANCY_MAX = 7
AUDIT_ROUNDS = 2
AUDIT_ROUNDS_MAX = 8
PROOF_TILES = 4  # proved of a task where the requester does not say how many
PROOF_TILES_MAX = 64
ATTEMPTS_MAX = 12  # leases of one task before it is given up as unresolved
WARM_ROWS_MAX = 65_536
WARM_FACTOR_MAX = 16  # warm-up rows for each row of a segment: what smoothing may cost in all
RESULT_BYTES_MAX = BLOB_BYTES_MAX
JOBS_ACTIVE_PER_REQUESTER_MAX = 1_000
PROBE_SIDE = 512  # m = n = k of the joining probe, docs/protocol.md §2.1
PROBE_ROUNDS = 4
