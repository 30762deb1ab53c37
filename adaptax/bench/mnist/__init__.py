"""A training step of the MNIST network, beside PyTorch."""
