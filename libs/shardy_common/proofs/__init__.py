"""Groth16 proofs on BN254 of a product: public signals, tiles for tasks that are larger than a circuit, and checking.

`verifier.Verifier` is what servers use: prover and verifier in one WebAssembly module, behind the parser of `parse`.
`pure` shares no code with it and needs no compiled code. `signals` and `tiles` compute what a proof is about.
"""
