"""Time optimizer steps, compared with Optax and PyTorch."""
