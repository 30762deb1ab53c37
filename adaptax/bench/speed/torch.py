"""PyTorch's optimizers, as a process that takes steps on request.

Each line on its standard input is a JSON list of the leaves' shapes, the method, the
kind of implementation, and a number of steps. Needs the `peers` extra.
"""

import importlib
import json
import time
from collections.abc import Callable
from typing import Any

from adaptax.bench.shared.interleaved import answer

PEERS = {
    "adam": ("fused", "foreach"),
    "momentum": ("fused", "foreach"),
    "adagrad": ("fused", "foreach"),
    "rmsprop": ("foreach",),
}
"""PyTorch's implementations of each method."""


def make_step(
    shapes: list[tuple[int, ...]], method: str, kind: str
) -> Callable[[], None]:
    """Build an optimizer of leaves with gradients, and return its step.

    Args:
        shapes: The shapes of the leaves.
        method: One of `PEERS`.
        kind: "fused" or "foreach".
    """
    torch: Any = importlib.import_module("torch")
    make = {
        "adam": torch.optim.Adam,
        "momentum": lambda params, **options: torch.optim.SGD(
            params, momentum=0.9, **options
        ),
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }[method]
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.zeros(*shape, requires_grad=True) for shape in shapes]
    for leaf in leaves:
        leaf.grad = 0.01 * torch.randn(*leaf.shape, generator=generator)
    return make(leaves, lr=1e-3, **{kind: True}).step


def main() -> None:
    """Take the steps of each line; keep the latest tree's and method's optimizers."""
    step_of: dict[str, Callable[[], None]] = {}
    latest: list[Any] = []

    def work(line):
        shapes, method, kind, steps = json.loads(line)
        if latest != [shapes, method]:
            latest[:] = shapes, method
            step_of.clear()
        if kind not in step_of:
            step_of[kind] = make_step(shapes, method, kind)
        start = time.perf_counter()
        for _ in range(steps):
            step_of[kind]()
        return time.perf_counter() - start

    answer(work)


if __name__ == "__main__":
    main()
