pragma circom 2.1.9;

include "chain.circom";

component main {public [tag, count]} = Chain(40);
