"""Sweeps of learning rates, beside loops by hand, PyTorch and Optuna."""
