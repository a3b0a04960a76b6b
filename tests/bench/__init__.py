"""Benchmarks of a whole application on a Ray of its own, as `kvplane bench` runs them."""
