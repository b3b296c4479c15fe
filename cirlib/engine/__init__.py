"""Section 3.1, made fast: trunk once, heads many times, on photos of any size."""
