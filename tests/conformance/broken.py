"""Methods that are deliberately broken, each in one way that a point must catch.

Most are momentum with something done to it:

    v ← b v + (1 − b) g,    w ← w − α v

Source: Polyak (1964), spoiled.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.cases import Case
from conformance.contracts import contract_of

import adaptax
from adaptax import catalog, optimizers
from adaptax._core import rates, scaling

MOMENTUM = catalog.find("momentum", "optimizer")
PLATEAU = catalog.find("reduce_on_plateau", "controller")
MONITOR = catalog.find("monitor", "wrapper")
PRODIGY = catalog.find("prodigy", "optimizer")


class Broken(NamedTuple):
    """What is wrong, the point that must notice, and a part of what it then says."""

    wrong: str
    point: str
    says: str
    case: Case


def with_tree(change: Callable) -> Callable:
    """Momentum whose updates are changed: `change(updates)`."""

    def factory(*arguments, **named):
        inner = optimizers.momentum(*arguments, **named)

        def update(updates, state, params=None, **extra_args):
            updates, state = inner.update(updates, state, params, **extra_args)
            return change(updates), state

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return factory


def with_updates(change: Callable) -> Callable:
    """Momentum whose updates are changed leaf by leaf."""
    return with_tree(lambda updates: jax.tree.map(change, updates))


def with_state(first: Callable, later: Callable) -> Callable:
    """Momentum with something more in its state: `first(params)`, then `later(it)`."""

    def factory(*arguments, **named):
        inner = optimizers.momentum(*arguments, **named)

        def init(params):
            return inner.init(params), first(params)

        def update(updates, state, params=None, **extra_args):
            updates, kept = inner.update(updates, state[0], params, **extra_args)
            return updates, (kept, later(state[1]))

        return optax.GradientTransformationExtraArgs(init, update)

    return factory


def of_hyperparameter(function: Callable) -> Callable:
    """Momentum that does something to its factor b before it uses it."""

    def factory(learning_rate, b=0.9, **named):
        return optimizers.momentum(learning_rate, function(b), **named)

    return factory


def pushed(*arguments, **named):
    """Momentum that goes on by itself where a gradient is not finite."""
    inner = optimizers.momentum(*arguments, **named)

    def update(updates, state, params=None, **extra_args):
        directions, state = inner.update(updates, state, params, **extra_args)
        directions = jax.tree.map(
            lambda g, u: jnp.where(jnp.isfinite(g), u, 2 * u), updates, directions
        )
        return directions, state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def adding_no_parameters(*arguments, **named):
    """Momentum that adds to each step 0 times the sum of all parameters."""
    inner = optimizers.momentum(*arguments, **named)

    def update(updates, state, params=None, **extra_args):
        updates, state = inner.update(updates, state, params, **extra_args)
        nothing = 0 * optax.tree.sum(params)
        return jax.tree.map(lambda x: x + nothing.astype(x.dtype), updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def drifting(*arguments, **named):
    """Momentum that takes its most recent step anew where no gradient is finite."""
    inner = optimizers.momentum(*arguments, **named)

    def init(params):
        return inner.init(params), jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params=None, **extra_args):
        directions, kept = inner.update(updates, state[0], params, **extra_args)
        finite = jnp.isfinite(updates["scalar"])
        directions = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), directions, state[1]
        )
        return directions, (kept, directions)

    return optax.GradientTransformationExtraArgs(init, update)


def followed(init: Callable, update: Callable) -> Callable:
    """A controller with its own `init(params)` and `update(state, extra_args)`."""

    def factory(**hyperparameters):
        del hyperparameters

        def apply(updates, state, params=None, **extra_args):
            del params
            state = update(state, extra_args)
            return scaling.scale_updates(updates, state.learning_rate), state

        return optax.GradientTransformationExtraArgs(init, apply)

    return factory


def wrapper(change: Callable = lambda updates: updates, forward: bool = True):
    """A wrapper that changes the updates, or keeps the extra arguments to itself."""

    def factory(inner):
        inner = optax.with_extra_args_support(inner)

        def update(updates, state, params=None, **extra_args):
            extra_args = extra_args if forward else {}
            updates, state = inner.update(updates, state, params, **extra_args)
            return change(updates), state

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return factory


def inferred(updates: Callable = lambda updates: updates, shown: float = 1.0):
    """Prodigy that changes its updates, or shows another rate than it has."""

    def factory(**hyperparameters):
        inner = adaptax.prodigy(**hyperparameters)

        def update(gradients, state, params=None, **extra_args):
            changed, state = inner.update(gradients, state, params, **extra_args)
            rate = shown * state.learning_rate
            return updates(changed), state._replace(learning_rate=rate)

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return factory


def halved(updates):
    """Take half of every step."""
    return jax.tree.map(lambda x: x / 2, updates)


def divided_by_size(updates):
    """Divide by the number of leaves, trained or not."""
    size = len(jax.tree.leaves(updates))
    return jax.tree.map(lambda x: x / size if is_real(x) else x, updates)


def divided_by_largest(updates):
    """Divide by the largest element of all."""
    largest = jnp.stack([jnp.max(x) for x in jax.tree.leaves(updates) if is_real(x)])
    return jax.tree.map(lambda x: x / largest.max() if is_real(x) else x, updates)


def sign_by_parts(x):
    """Take the sign of each part of a complex number."""
    if not jnp.iscomplexobj(x):
        return x
    return jax.lax.complex(jnp.sign(x.real), jnp.sign(x.imag))


def without_imaginary_part(x):
    """Drop the imaginary part, and keep the dtype."""
    return x.real.astype(x.dtype)


def adding_imaginary_parts(learning_rate, b=0.9):
    """Momentum that lets imaginary parts into its state as they are."""
    inner = optimizers.momentum(learning_rate, b)

    def init(params):
        return inner.init(params), jnp.zeros(())

    def update(updates, state, params=None, **extra_args):
        total = state[1] + _sum(jax.tree.map(jnp.imag, updates))
        updates, kept = inner.update(updates, state[0], params, **extra_args)
        return updates, (kept, total)

    return optax.GradientTransformationExtraArgs(init, update)


def is_real(x):
    """Return whether an array is of floating-point numbers."""
    return jnp.issubdtype(x.dtype, jnp.floating)


class Followed(NamedTuple):
    """The state of a controller that averages the loss."""

    learning_rate: jax.Array
    mean: jax.Array


def halve_when_traced(x):
    """Do something else under a transformation of JAX."""
    return x / 2 if isinstance(x, jax.core.Tracer) else x


def call_python(b):
    """Leave the program for Python, which vmap cannot follow."""
    return jax.pure_callback(lambda b: b, jax.ShapeDtypeStruct((), b.dtype), b)


def require_float(b):
    """Refuse whatever is no Python number."""
    if not isinstance(b, float):
        raise TypeError("b must be a float")
    return b


def branch(b):
    """Decide in Python by the value of a hyperparameter."""
    return b if b > 0.5 else 0.5


def number_seat(learning_rate, b=0.9):
    """Take no rate but a number."""
    return optax.chain(
        optimizers.scale_by_momentum(b), optax.scale(-float(learning_rate))
    )


def plain_optax(learning_rate, b=0.9):
    """Let everything into the state, as Optax does."""
    return optax.chain(optax.scale(1 - b), optax.trace(b), rates.descend(learning_rate))


def no_extra_arguments(learning_rate, b=0.9):
    """Take no extra arguments, and say otherwise."""
    inner = optimizers.momentum(learning_rate, b)

    def update(updates, state, params=None):
        return inner.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def read_value(learning_rate, b=0.9):
    """Use a loss that the entry does not declare."""
    inner = optimizers.momentum(learning_rate, b)

    def update(updates, state, params=None, value=1.0, **extra_args):
        updates, state = inner.update(updates, state, params, **extra_args)
        return jax.tree.map(lambda x: x * value, updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def read_params(learning_rate, b=0.9):
    """Use parameters that the entry does not declare."""
    inner = optimizers.momentum(learning_rate, b)

    def update(updates, state, params=None, **extra_args):
        del extra_args
        updates, state = inner.update(updates, state, params)
        return jax.tree.map(lambda u, w: u - 0 * w, updates, params), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def unsharded_state(learning_rate, b=0.9):
    """Make the state from shapes, on the default device."""
    inner = optimizers.momentum(learning_rate, b)

    def init(params):
        return inner.init(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params))

    return optax.GradientTransformationExtraArgs(init, inner.update)


def stale_default(learning_rate, b=0.8):
    """Momentum that states another default than it has.

    Args:
        learning_rate: α.
        b: β, by default 0.9.
    """
    return optimizers.momentum(learning_rate, b)


def undocumented(learning_rate, b=0.9):
    """Momentum without a word about b.

    Args:
        learning_rate: α.
    """
    return optimizers.momentum(learning_rate, b)


def undocumented_module(learning_rate, b=0.9):
    """Momentum."""
    return optimizers.momentum(learning_rate, b)


undocumented_module.__module__ = "math"


def without_source(learning_rate, b=0.9):
    """v ← b v + (1 − b) g."""
    return optimizers.momentum(learning_rate, b)


without_source.__module__ = "math"


def broken(wrong, point, says, factory, entry=MOMENTUM, **changes) -> Broken:
    """Put a factory into the place of an entry's own."""
    if not factory.__doc__:
        functools.update_wrapper(factory, entry.factory)
    contract = contract_of(entry)
    fields = {field.name for field in dataclasses.fields(contract)}
    others = {name: changes.pop(name) for name in fields & changes.keys()}
    entry = dataclasses.replace(entry, factory=factory, **changes)
    contract = dataclasses.replace(contract, **others)
    return Broken(wrong, point, says, Case(entry, other_contract=contract))


def _sum(params):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))


def _one(params):
    return jnp.ones((), jnp.float32)


SOUND = broken(
    "nothing",
    "all",
    "",
    with_state(lambda params: jnp.zeros((), jnp.int32), lambda count: count + 1),
).case

BROKEN = [
    broken(
        "init needs values",
        "abstract_init",
        "ShapeDtypeStruct",
        with_state(_sum, lambda total: total),
    ),
    broken(
        "the state is weakly typed at first",
        "state_types",
        "weak",
        with_state(lambda params: jnp.asarray(1.0), lambda x: x * np.float32(1)),
    ),
    broken(
        "the state takes the parameters' dtype and then float32",
        "state_types",
        "bfloat16",
        with_state(
            lambda params: jnp.zeros_like(jax.tree.leaves(params)[0]),
            lambda x: x.astype(jnp.float32),
        ),
    ),
    broken(
        "the state takes the type of a Python number",
        "state_types",
        "weak",
        followed(
            lambda params: Followed(_one(params), _one(params)),
            lambda state, extra: state._replace(mean=jnp.asarray(extra["value"])),
        ),
        PLATEAU,
    ),
    broken(
        "the state becomes an integer",
        "state_types",
        "int32",
        with_state(_one, lambda x: x.astype(jnp.int32)),
    ),
    broken(
        "updates of half precision leave in float32",
        "update_types",
        "bfloat16: .*float32",
        with_updates(lambda x: x.astype(jnp.float32)),
    ),
    broken(
        "updates lose their shape",
        "update_types",
        "16,.*not .*8, 2",
        with_updates(lambda x: x.reshape(-1)),
    ),
    broken(
        "a Python branch on a hyperparameter",
        "no_recompilation",
        "boolean conversion of traced",
        of_hyperparameter(branch),
    ),
    broken(
        "a hyperparameter baked into the program",
        "no_recompilation",
        "problem arose with the `float` function",
        of_hyperparameter(float),
    ),
    broken(
        "the second step has other types",
        "no_recompilation",
        "traced again",
        with_state(lambda params: jnp.asarray(1.0), lambda x: x * np.float32(1)),
    ),
    broken(
        "something else under jit",
        "jit",
        "off by",
        with_updates(halve_when_traced),
    ),
    broken(
        "a callback that vmap cannot follow",
        "vmap",
        "vmap",
        of_hyperparameter(call_python),
    ),
    broken(
        "a history that grows",
        "scan",
        "same pytree structure",
        with_state(lambda params: (), lambda history: (*history, jnp.ones(()))),
    ),
    broken(
        "no extra arguments",
        "extra_arguments",
        "unexpected keyword",
        no_extra_arguments,
    ),
    broken(
        "a loss that it does not declare",
        "extra_arguments",
        "not equal",
        read_value,
    ),
    broken(
        "parameters that it does not declare",
        "extra_arguments",
        "pytree structure",
        read_params,
    ),
    broken(
        "a missing loss that it does not name",
        "extra_arguments",
        "without value: KeyError",
        followed(
            lambda params: Followed(_one(params), _one(params)),
            lambda state, extra: state._replace(mean=state.mean + extra["value"]),
        ),
        PLATEAU,
    ),
    broken("a seat for numbers alone", "seat", "not 'function'", number_seat),
    broken(
        "a seat of which the entry does not know",
        "seat",
        "does not declare",
        lambda learning_rate=0.1, b=0.9: optimizers.momentum(learning_rate, b),
        hyperparameters={"b": 0.8},
    ),
    broken(
        "a hyperparameter that must be a Python number",
        "composition",
        "must be a float",
        of_hyperparameter(require_float),
    ),
    broken(
        "a state on the default device",
        "sharding",
        "the first state.* has the sharding",
        unsharded_state,
    ),
    broken(
        "a mean over all the devices",
        "sharding",
        "the devices wait for each other",
        with_updates(lambda x: x - 1e-9 * jnp.mean(x, keepdims=True)),
    ),
    broken(
        "every device has all the rows",
        "sharding",
        "each device gathers the whole",
        with_updates(lambda x: jnp.sort(x, axis=0) if x.ndim else x),
    ),
    broken(
        "a Python number in the state",
        "serialization",
        "'float' object has no attribute",
        with_state(lambda params: 1.0, lambda x: x),
    ),
    broken(
        "half of the rate that it shows",
        "learning_rate",
        "off by",
        with_updates(lambda x: x / 2),
    ),
    broken(
        "an inferred rate that it shows wrongly",
        "learning_rate",
        "the rate is off",
        inferred(shown=0.5),
        PRODIGY,
    ),
    broken(
        "half of the inferred rate that it shows",
        "learning_rate",
        "off by",
        inferred(halved),
        PRODIGY,
    ),
    broken(
        "a rate where none is declared",
        "learning_rate",
        "declares not to have",
        with_updates(lambda x: x),
        rate="none",
    ),
    broken(
        "a step though the gradients are zero",
        "zero_gradients",
        "zero gradients moved",
        with_updates(lambda x: x + 1e-3),
    ),
    broken(
        "a division by a gradient of zero",
        "zero_gradients",
        "finite",
        with_updates(lambda x: x / jnp.abs(x)),
    ),
    broken(
        "NaN and infinity let into the state",
        "nonfinite",
        "finite",
        plain_optax,
    ),
    broken(
        "a loss that is not finite let into the state",
        "nonfinite",
        "the state is not finite",
        followed(
            lambda params: Followed(_one(params), jnp.zeros(())),
            lambda state, extra: state._replace(
                mean=0.9 * state.mean + 0.1 * extra["value"]
            ),
        ),
        PLATEAU,
    ),
    broken(
        "a step where the gradient is bad",
        "nonfinite",
        "a bad gradient moved further than a zero",
        pushed,
    ),
    broken(
        "a step that goes on without any gradient",
        "nonfinite",
        "it moves on without any gradient",
        drifting,
    ),
    broken(
        "an end to training once a loss was bad",
        "nonfinite",
        "training does not go on",
        followed(
            lambda params: Followed(_one(params), jnp.zeros(())),
            lambda state, extra: state._replace(
                learning_rate=jnp.where(
                    jnp.isfinite(extra["value"]), state.learning_rate, 0
                )
            ),
        ),
        PLATEAU,
    ),
    broken(
        "a step that one bad parameter spoils",
        "nonfinite",
        "a parameter of NaN spoils the others",
        adding_no_parameters,
    ),
    broken("the wrong sign", "goals", "of the first loss", with_updates(jnp.negative)),
    broken(
        "a wrong averaging factor",
        "reference",
        "off by",
        of_hyperparameter(lambda b: b * 0.999999),
    ),
    broken("the wrong sign", "optax", "off by", with_updates(jnp.negative)),
    broken(
        "neither a twin nor a reason",
        "optax",
        "neither",
        with_updates(lambda x: x),
        optax_twin=None,
    ),
    broken(
        "a state that shares the parameters' buffers",
        "donation",
        "donate",
        with_state(lambda params: params, lambda x: x),
    ),
    broken(
        "integers that become floats",
        "leaves",
        "int32 has become float32",
        with_updates(lambda x: x.astype(jnp.float32) if x.dtype == "int32" else x),
    ),
    broken(
        "a size to which untrained leaves add",
        "leaves",
        "off by",
        with_tree(divided_by_size),
    ),
    broken(
        "a largest element, even of nothing",
        "leaves",
        "zero-size array",
        with_tree(divided_by_largest),
    ),
    broken(
        "a wrapper that takes half of the rate that it shows",
        "learning_rate",
        "off by",
        wrapper(halved),
        MONITOR,
    ),
    broken(
        "a wrapper that never steps",
        "learning_rate",
        "nothing was ever applied",
        wrapper(lambda updates: jax.tree.map(jnp.zeros_like, updates)),
        MONITOR,
    ),
    broken(
        "a wrapper that keeps the loss to itself",
        "seat",
        "`value`",
        wrapper(forward=False),
        MONITOR,
    ),
    broken(
        "a wrapper that its reference is not",
        "reference",
        "off by",
        wrapper(halved),
        MONITOR,
    ),
    broken(
        "an inferred rate that its reference has not",
        "reference",
        "off by",
        inferred(halved),
        PRODIGY,
    ),
    broken("no equation", "docstring", "there is no equation", undocumented_module),
    broken("no source", "docstring", "there is no source", without_source),
    broken(
        "a source that the catalogue does not know",
        "docstring",
        "is not in it",
        of_hyperparameter(lambda b: b),
        source="Euclid (300 BC)",
    ),
    broken("a stale default", "docstring", "0.9 is stated, not 0.8", stale_default),
    broken(
        "an argument without a word",
        "docstring",
        "b is not documented",
        undocumented,
        direction=None,
    ),
    broken(
        "a sign of each part",
        "complex",
        "on a line: off by",
        with_updates(sign_by_parts),
    ),
    broken(
        "real parts alone",
        "complex",
        "on a line: off by",
        with_updates(without_imaginary_part),
    ),
    broken(
        "an infinite imaginary part let into the state",
        "complex",
        "the state is not finite",
        adding_imaginary_parts,
    ),
]
