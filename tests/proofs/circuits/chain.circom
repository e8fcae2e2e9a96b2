pragma circom 2.1.9;

// A circuit for the tests of keys, prover and verifier: four public signals like the product's own, and bits,
// small numbers and large ones among its wires. Statement: `last` is what `first` becomes after n steps of
// v ↦ v² + tag, `bits` spells `count`, and `mixed` is last·count + tag.
template Chain(n) {
    signal input tag;
    signal input count;
    signal input first;
    signal input bits[16];
    signal output mixed;
    signal output last;

    signal steps[n + 1];
    steps[0] <== first;
    for (var i = 0; i < n; i++) {
        steps[i + 1] <== steps[i] * steps[i] + tag;
    }
    last <== steps[n];

    var spelled = 0;
    for (var i = 0; i < 16; i++) {
        bits[i] * (bits[i] - 1) === 0;
        spelled += bits[i] * (1 << i);
    }
    spelled === count;
    mixed <== last * count + tag;
}
