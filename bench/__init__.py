"""Benchmarks: each suite measures Shardy beside a peer or a limit in the same run; ratios are what counts."""
