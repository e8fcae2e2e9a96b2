"""Groth16 proofs on BN254 of a product: public signals, tiles for tasks larger than a circuit, proving, checking.

`verifier.Verifier` and `prover.Prover` call one WebAssembly module, behind the parser of `parse`. `pure` is a verifier
that shares no code with it and needs no compiled code. `signals` and `tiles` compute what a proof is about, `statement`
says it for a task of the mesh, and `needs` what proving it takes.
"""
