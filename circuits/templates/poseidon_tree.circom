// SPDX-License-Identifier: GPL-3.0-only
pragma circom 2.1.6;

include "../node_modules/circomlib/circuits/poseidon.circom";

// Poseidon hash of `count` field elements, in their order, through a tree of arity 12.
//
// A level is cut into runs of 12, the last one shorter; a run of s values becomes Poseidon(s) of them, until one value
// is left. A single value is hashed once. The count is not hashed: it is fixed by the circuit, so two lists of
// different lengths never meet under one verification key.
//
// in:  count ≥ 1 field elements.   out: one.   Constraints: about 42 an element.
template PoseidonTree(count) {
    signal input in[count];
    signal output out;

    if (count <= 12) {
        out <== Poseidon(count)(in);
    } else {
        var runs = (count + 11) \ 12;
        component run[runs];
        signal above[runs];
        for (var r = 0; r < runs; r++) {
            var size = 12;
            if (r == runs - 1) { size = count - 12 * r; }
            run[r] = Poseidon(size);
            for (var i = 0; i < size; i++) { run[r].inputs[i] <== in[12 * r + i]; }
            above[r] <== run[r].out;
        }
        out <== PoseidonTree(runs)(above);
    }
}
