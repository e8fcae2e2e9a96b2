// SPDX-License-Identifier: GPL-3.0-only
pragma circom 2.1.6;

include "node_modules/circomlib/circuits/poseidon.circom";
include "templates/poseidon_tree.circom";
include "templates/signed_bytes.circom";
include "templates/packed_freivalds.circom";

// A worker knows int8 matrices A (m×k) and B (n×k) behind inputCommit and the int32 product C = A·Bᵀ (m×n) behind
// resultDigest, and made this proof for the task and lease that taskCtx names.
//
// Public, in this order (all are outputs, so that whoever computes a witness needs no Poseidon of its own):
//     taskCtx       31 bytes of a hash over who computed what, for which lease, under which key
//     outLen        bytes of the result
//     inputCommit   Poseidon(hA, hB)
//     resultDigest  Poseidon(hC, outLen)
// Private:
//     context, length       what taskCtx and outLen are
//     a[m/8][k]             rows of A, eight to a number, digits of 31 bits, signed
//     b[⌈n·k/31⌉]           B's bytes as stored, row-major, 31 to a number, little-endian
//     c[m/8][n]             rows of C, as a
// hA, hB and hC are Poseidon trees of arity 12 over a, b and c as they stand.
//
// Range: k ≤ 65535; m a multiple of 8 (missing rows are zero); every byte of B is checked.
// The verifier must recompute taskCtx, outLen and inputCommit: the digits of A are range-checked by nobody else.
// docs/proofs.md gives every byte; README.md the argument and the constraint counts.
template ShardyTaskProofV2(m, k, n) {
    assert(m % 8 == 0 && m > 0 && n > 0 && k > 0 && k <= 65535);
    var groups = m \ 8;
    var words = (n * k + 30) \ 31;

    signal input context;
    signal input length;
    signal input a[groups][k];
    signal input b[words];
    signal input c[groups][n];

    signal output taskCtx <== context;
    signal output outLen <== length;
    signal output inputCommit;
    signal output resultDigest;

    component hashA = PoseidonTree(groups * k);
    component hashC = PoseidonTree(groups * n);
    for (var g = 0; g < groups; g++) {
        for (var j = 0; j < k; j++) { hashA.in[g * k + j] <== a[g][j]; }
        for (var i = 0; i < n; i++) { hashC.in[g * n + i] <== c[g][i]; }
    }
    signal hB <== PoseidonTree(words)(b);
    inputCommit <== Poseidon(2)([hashA.out, hB]);
    resultDigest <== Poseidon(2)([hashC.out, outLen]);

    component values = SignedBytes(n * k);
    values.in <== b;

    component check = PackedFreivalds(groups, k, n);
    check.rho <== Poseidon(4)([taskCtx, outLen, inputCommit, resultDigest]);
    check.a <== a;
    check.c <== c;
    for (var i = 0; i < n; i++) {
        for (var j = 0; j < k; j++) { check.b[i][j] <== values.value[i * k + j]; }
    }
}
