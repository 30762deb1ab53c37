"""Data, networks, training and timing that the benchmarks share."""
