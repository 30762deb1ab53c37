"""Benchmark of cool-downs from one trunk against a cosine for each horizon."""
