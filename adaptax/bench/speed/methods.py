"""The methods whose steps are timed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax.numpy as jnp
import optax
import optax.contrib

import adaptax
from adaptax.bench.speed.report import (
    BYTES,
    CONTROLLED,
    HALVES,
    WATCHED,
)


@dataclass(frozen=True)
class Method:
    """A method in adaptax and in Optax, or `None` if Optax lacks it.

    `more` has other forms of adaptax's by name.
    """

    ours: Callable[[], optax.GradientTransformation]
    theirs: Callable[[], optax.GradientTransformation] | None
    more: Mapping[str, Callable[[], optax.GradientTransformation]] = field(
        default_factory=dict
    )


def _our_chain() -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        adaptax.scale_by_adam(),
        adaptax.cosine(1e-3, 10_000),
        adaptax.reduce_on_plateau(factor=0.5, patience=10),
        optax.scale(-1.0),
    )


def _their_chain() -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(1e-3, 10_000)),
        optax.contrib.reduce_on_plateau(factor=0.5, patience=10),
    )


def _controlled_adam() -> optax.GradientTransformation:
    rate = optax.chain(adaptax.cosine(1e-3, 10_000), adaptax.reduce_on_plateau())
    return adaptax.adam(rate)


METHODS = {
    "adam": Method(
        lambda: adaptax.adam(1e-3),
        lambda: optax.adam(1e-3),
        more={
            CONTROLLED: _controlled_adam,
            WATCHED: lambda: adaptax.monitor(_controlled_adam()),
            HALVES: lambda: adaptax.adam(1e-3, accumulator_dtype=jnp.bfloat16),
            BYTES: lambda: adaptax.quantized(adaptax.adam(1e-3)),
        },
    ),
    "momentum": Method(
        lambda: adaptax.momentum(1e-3, dampening=0.0), lambda: optax.sgd(1e-3, 0.9)
    ),
    "adagrad": Method(lambda: adaptax.adagrad(1e-3), lambda: optax.adagrad(1e-3)),
    "rmsprop": Method(lambda: adaptax.rmsprop(1e-3), lambda: optax.rmsprop(1e-3)),
    "lion": Method(lambda: adaptax.lion(1e-3), lambda: optax.lion(1e-3)),
    "prodigy": Method(adaptax.prodigy, optax.contrib.prodigy),
    "dog": Method(lambda: adaptax.gradient_descent(adaptax.dog()), optax.contrib.dog),
    "clip, adam, cosine, plateau": Method(_our_chain, _their_chain),
    "the same, monitored": Method(lambda: adaptax.monitor(_our_chain()), None),
}
