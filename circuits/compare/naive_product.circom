// SPDX-License-Identifier: GPL-3.0-only
pragma circom 2.1.6;

include "../node_modules/circomlib/circuits/poseidon.circom";
include "../templates/poseidon_tree.circom";
include "../templates/signed_bytes.circom";

// The same statement as ShardyTaskProofV2, by multiplying everything: m·k·n products, and A unpacked as B is.
// Nothing uses it; it is compiled to know what the other circuit saves.
template NaiveProduct(m, k, n) {
    assert(m % 8 == 0);
    var groups = m \ 8;
    var wordsA = (m * k + 30) \ 31;
    var wordsB = (n * k + 30) \ 31;

    signal input context;
    signal input length;
    signal input a[wordsA];
    signal input b[wordsB];

    signal output taskCtx <== context;
    signal output outLen <== length;
    signal output inputCommit;
    signal output resultDigest;

    signal left[m * k] <== SignedBytes(m * k)(a);
    signal right[n * k] <== SignedBytes(n * k)(b);
    signal products[m][n][k];
    component hashC = PoseidonTree(groups * n);
    for (var g = 0; g < groups; g++) {
        for (var i = 0; i < n; i++) {
            var packed = 0;
            for (var r = 0; r < 8; r++) {
                for (var j = 0; j < k; j++) {
                    products[8 * g + r][i][j] <== left[(8 * g + r) * k + j] * right[i * k + j];
                    packed += products[8 * g + r][i][j] * (1 << (31 * r));
                }
            }
            hashC.in[g * n + i] <== packed;
        }
    }
    signal hA <== PoseidonTree(wordsA)(a);
    signal hB <== PoseidonTree(wordsB)(b);
    inputCommit <== Poseidon(2)([hA, hB]);
    resultDigest <== Poseidon(2)([hashC.out, outLen]);
    // A public signal that no constraint names could be changed by anybody.
    signal square <== taskCtx * taskCtx;
}
