"""Time a training step of the MNIST network, compared with PyTorch."""
