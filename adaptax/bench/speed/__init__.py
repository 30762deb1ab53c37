"""Optimizer steps, beside Optax and PyTorch."""
