"""The MNIST network in eager PyTorch, as a process that trains on request.

Each line on its standard input is a number of steps. Needs the `peers` extra.
"""

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from adaptax.bench.shared.interleaved import answer

EXAMPLES = 10_000


def make_train(
    torch: Any, batch_size: int, channels_last: bool
) -> Callable[[int], None]:
    """Build the network, and return `train(steps)`.

    Args:
        torch: The module.
        batch_size: Examples in a step.
        channels_last: Whether the layout of images and kernels is `channels_last`
            instead of contiguous.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (EXAMPLES, 1, 28, 28), generator=generator)
    labels = torch.randint(0, 10, (EXAMPLES,), generator=generator)
    pixels = images.float().div_(255)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding="same"),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding="same"),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(7 * 7 * 64, 10),
    ).to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def train(steps: int) -> None:
        order = torch.randint(0, EXAMPLES, (steps, batch_size), generator=generator)
        for indices in order:
            batch = pixels[indices].contiguous(memory_format=layout)
            logits = network(batch)
            loss = torch.nn.functional.cross_entropy(logits, labels[indices])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return train


def main() -> None:
    """Take the number of steps of each line of standard input, and print the time."""
    batch_size, layout, threads = sys.argv[1:]
    torch = importlib.import_module("torch")
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    train = make_train(torch, int(batch_size), layout == "channels_last")

    def work(line):
        start = time.perf_counter()
        train(int(line))
        return time.perf_counter() - start

    answer(work)


if __name__ == "__main__":
    main()
