"""One module a path of the benchmark; `scripts/bench.py` runs them."""
