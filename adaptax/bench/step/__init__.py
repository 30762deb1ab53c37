"""Benchmark of whole training steps, beside Optax's AdamW."""
