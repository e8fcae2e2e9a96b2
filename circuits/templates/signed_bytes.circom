// SPDX-License-Identifier: GPL-3.0-only
pragma circom 2.1.6;

include "../node_modules/circomlib/circuits/bitify.circom";

// int8 values out of field elements that hold 31 bytes each.
//
// Statement: words[q] = Σ_{s<31} 256^s · byte(31·q + s), every byte in 0 … 255 by its eight bits, and
// value[i] = byte(i) as two's complement. 31 bytes stay below 2^248 < p, so a word has one decomposition only. The last
// word holds what is left and can be no larger.
//
// Eight boolean constraints a byte, and one sum a word.
template SignedBytes(count) {
    var words = (count + 30) \ 31;
    signal input in[words];
    signal output value[count];

    component bits[words];
    for (var q = 0; q < words; q++) {
        var size = 31;
        if (q == words - 1) { size = count - 31 * q; }
        bits[q] = Num2Bits(8 * size);
        bits[q].in <== in[q];
        for (var s = 0; s < size; s++) {
            var sum = -128 * bits[q].out[8 * s + 7];
            for (var i = 0; i < 7; i++) { sum += bits[q].out[8 * s + i] * (1 << i); }
            value[31 * q + s] <== sum;
        }
    }
}
