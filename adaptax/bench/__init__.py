"""Benchmarks: adaptax measured side by side with its peers, in one run."""
