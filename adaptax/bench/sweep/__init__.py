"""Time sweeps, compared with hand-written loops, PyTorch and Optuna."""
