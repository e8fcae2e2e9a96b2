pragma circom 2.1.9;

include "chain.circom";

// As many constraints as the proof of a 32 by 32 product has: for timing.
component main {public [tag, count]} = Chain(23700);
