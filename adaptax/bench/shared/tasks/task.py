"""A task of the tuning benchmark: a loss, its data, and a held-out variant.

A variant changes the data or the batch size, never the network: `rescale_inputs`,
`shrink_batch` and `corrupt_labels`. It tests whether a method's defaults transfer.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np


class Problem(NamedTuple):
    """The data of a task: examples along the first axis of every array.

    `train`, `validation` and `test` are dicts of arrays with the same keys, and have no
    example in common. A training step draws `batch_size` examples of `train`, with
    replacement; choices are made by `validation`, and `test` is for what is reported.
    """

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    batch_size: int


class Task(NamedTuple):
    """A training task.

    `init(key)` returns the parameters and `loss(params, batch, key)` the mean loss over
    a batch, with a key for losses that draw noise. `steps` is the length of a run and
    `problem()` returns the data. `vary(problem)` returns the held-out variant, whose
    name is `variant`; a task need not have one.

    `measured(params, examples, key)` is what is reported where this is not the loss;
    call `measure`, which falls back on the loss. `half` is "design" for the tasks on
    which design choices are made, and "frozen" for those that are run after them.
    """

    name: str
    steps: int
    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, dict[str, jax.Array], jax.Array], jax.Array]
    problem: Callable[[], Problem]
    vary: Callable[[Problem], Problem] | None = None
    variant: str | None = None
    half: Literal["design", "frozen"] | None = None
    measured: Callable[[Any, dict[str, jax.Array], jax.Array], jax.Array] | None = None

    def variants(self) -> dict[str, Problem]:
        """Return the problem and its held-out variant, if it has one, by name."""
        problem = self.problem()
        if self.vary is None or self.variant is None:
            return {"plain": problem}
        return {"plain": problem, self.variant: self.vary(problem)}

    def measure(
        self, params: Any, examples: dict[str, jax.Array], key: jax.Array
    ) -> jax.Array:
        """Return what is reported of a run: the mean loss, or what `measured` says."""
        return (self.measured or self.loss)(params, examples, key)


def rescale_inputs(problem: Problem, factor: float = 100.0) -> Problem:
    """Multiply all inputs by a factor."""

    def rescale(examples):
        inputs = np.float32(factor) * examples["inputs"]
        return examples | {"inputs": inputs}

    return problem._replace(
        train=rescale(problem.train),
        validation=rescale(problem.validation),
        test=rescale(problem.test),
    )


def shrink_batch(problem: Problem, divisor: int = 4) -> Problem:
    """Divide the batch size."""
    return problem._replace(batch_size=problem.batch_size // divisor)


def corrupt_labels(problem: Problem, share: float = 0.2) -> Problem:
    """Replace a share of the training labels by labels of random training examples."""
    generator = np.random.default_rng(1)
    labels = problem.train["labels"]
    chosen = generator.random(labels.shape) < share
    other = generator.permutation(labels.reshape(-1)).reshape(labels.shape)
    labels = np.where(chosen, other, labels)
    return problem._replace(train=problem.train | {"labels": labels})
