"""The networks of the sweep benchmark in eager PyTorch, one after the other."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np


def make_train(
    name: str, members: int, batch_size: int, data: dict[str, np.ndarray], rates: Any
) -> Callable[[int], None]:
    """Build a network for each rate; return `train(steps)`, which trains one by one.

    Args:
        name: "MNIST network", or "MLP, … units".
        members: The number of networks.
        batch_size: Examples in a step.
        data: `images` (N, 28, 28) uint8 and `labels` (N,).
        rates: The learning rates, of shape (members,).
    """
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(0)
    pixels = torch.from_numpy(data["images"]).float()[:, None] / 255
    labels = torch.from_numpy(data["labels"]).long()
    if name == "MNIST network":
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    networks = [_network(torch, name) for _ in range(members)]
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=float(rate), fused=True)
        for network, rate in zip(networks, rates, strict=True)
    ]

    def train(steps: int) -> None:
        order = torch.randint(0, len(labels), (steps, batch_size))
        for network, optimizer in zip(networks, optimizers, strict=True):
            for rows in order:
                logits = network(pixels[rows])
                loss = torch.nn.functional.cross_entropy(logits, labels[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()

    return train


def _network(torch: Any, name: str) -> Any:
    nn = torch.nn
    if name == "MNIST network":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(7 * 7 * 64, 10),
        ).to(memory_format=torch.channels_last)
    width = int(name.split()[1])
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10)
    )
