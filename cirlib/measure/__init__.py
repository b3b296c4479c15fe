"""Trained networks to numbers: quality, modulation, latency, ablations."""
