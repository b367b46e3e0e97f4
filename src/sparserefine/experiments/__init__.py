"""Experiments that put the method to the test: frontier, baselines, ablations, latency tables."""
