"""Batch statistics: their plain averages over some batches, at the parameters in use.

    s ← s + (b_k − s)/(k + 1),   k = 0, 1, …          b_k: the statistics of batch k

Batch normalization keeps statistics of the points at which it was trained. Averaged
parameters, which are nowhere trained, need statistics of their own. The layers of Flax
average exponentially, which would keep a part of the old statistics; here the first
batch replaces them.

Source: Izmailov et al. (2018), "Averaging Weights Leads to Wider Optima and Better
Generalization" (arXiv 1803.05407), section 3.2; PyTorch's `update_bn`.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core.states import key_of

NAMES = ("mean", "var")
"""The statistics of a layer, in Linen and in NNX."""

_COLLECTION = "batch_stats"  # of Linen


class Averaging(NamedTuple):
    """The number of batches averaged so far, and the layers that were seen."""

    batches: jax.Array
    layers: list[Any]


_PRESENT: ContextVar[Averaging | None] = ContextVar("averaging", default=None)


def present() -> Averaging | None:
    """Return the averaging in which a model is called, if any."""
    return _PRESENT.get()


@contextmanager
def averaging(count: jax.Array) -> Iterator[Averaging]:
    """Let the batch normalizations of models called inside average plainly.

    Those of Linen do so themselves; who calls an NNX model asks for `present`.

    Args:
        count: The number of batches averaged so far; may be traced.
    """
    now = Averaging(count, [])
    linen = sys.modules.get("flax.linen")
    intercept = linen.intercept_methods(_averages(linen, now)) if linen else None
    token = _PRESENT.set(now)
    try:
        with intercept or nullcontext():
            yield now
    finally:
        _PRESENT.reset(token)


def with_batch(average: jax.Array, new: jax.Array, count: jax.Array) -> jax.Array:
    """Return an average over one more batch; the old one does not count for none."""
    share = (1 / (count + 1)).astype(average.dtype)
    return jnp.where(count == 0, new, average + share * (new - average))


def averaged(
    before: Any, after: Any, count: jax.Array, layers: Collection[tuple[Any, ...]]
) -> Any:
    """Return variables with the averages of some layers' statistics.

    Args:
        before: Nested dicts with the averages so far.
        after: Nested dicts with the statistics of one more batch.
        count: The number of batches so far.
        layers: The paths of the layers. Other variables are those after the batch.
    """

    def leaf(path, old, new):
        *above, name = (key_of(entry) for entry in path)
        is_statistic = name in NAMES and tuple(above) in layers
        return with_batch(old, new, count) if is_statistic else new

    return jax.tree.map_with_path(leaf, before, after)


def _averages(linen: Any, now: Averaging) -> Callable[..., Any]:
    """Return an interceptor of methods in Linen."""

    def call(next_function, args, kwargs, context):
        module = context.module
        statistics = isinstance(module, linen.BatchNorm) and [
            name for name in NAMES if module.has_variable(_COLLECTION, name)
        ]
        if context.method_name != "__call__" or not statistics:
            return next_function(*args, **kwargs)
        before = {name: module.get_variable(_COLLECTION, name) for name in statistics}
        momentum = module.momentum
        object.__setattr__(module, "momentum", 0.0)  # so that b_k is what is left
        try:
            outputs = next_function(*args, **kwargs)
        finally:
            object.__setattr__(module, "momentum", momentum)
        for name, old in before.items():
            new = module.get_variable(_COLLECTION, name)
            if new is not old:  # in train mode
                now.layers.append(module)
                average = with_batch(old, new, now.batches)
                module.put_variable(_COLLECTION, name, average)
        return outputs

    return call


def without_momentum(nnx: Any, model: Any) -> dict[tuple[Any, ...], Any]:
    """Let an NNX model's batch normalizations keep the last batch's statistics only.

    Returns:
        The layers by their paths.
    """
    found = {
        path: module
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.BatchNorm)
    }
    for module in found.values():
        module.momentum = 0.0
    return found
