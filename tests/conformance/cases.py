"""What the contract is checked on: every entry of the catalogue, in each variant.

A case also knows how to train: `trainer` and `stepper` compile one program each, which
many points of the contract share.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.contracts import Contract, contract_of
from conformance.problems import PROBLEMS, SHAPES, SIZE, tree_of

from adaptax import catalog
from adaptax._core.leaves import (
    abs_sq,
    dtype_of,
    global_norm,
    inner,
    is_placeholder,
    is_trained,
    kept_dtype,
    steepest,
    times,
)

STEPS = 50


@dataclass(frozen=True, eq=False)
class Case:
    """An entry of the catalogue, with some of its structural arguments replaced."""

    entry: catalog.Entry
    variant: Mapping[str, Any] = field(default_factory=dict)
    other_contract: Contract | None = None

    def __str__(self) -> str:
        arguments = [f"{name}={value}" for name, value in self.variant.items()]
        return "-".join([self.entry.name, *arguments])

    @property
    def contract(self) -> Contract:
        """What it is held to, unless it is another contract."""
        return self.other_contract or contract_of(self.entry)

    @property
    def arguments(self) -> dict[str, Any]:
        """Every argument of the factory."""
        return {**self.entry.hyperparameters, **self.variant}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The arguments that are numbers, as strongly typed NumPy scalars."""
        wide = jnp.result_type(float)

        def strong(value):
            return wide.type(value) if isinstance(value, float) else np.int32(value)

        structural = self.structural
        numbers = {k: v for k, v in self.arguments.items() if k not in structural}
        return jax.tree.map(strong, numbers)

    @property
    def structural(self) -> set[str]:
        """The names of the arguments that are no data."""
        found = {k for k, v in self.arguments.items() if _is_structure(v)}
        return found.union(self.contract.static)

    @property
    def needs(self) -> frozenset[str]:
        """What `update` must be given."""
        for value in self.variant.values():
            if value in self.contract.variant_needs:
                return self.contract.variant_needs[value]
        return self.entry.needs

    @property
    def by_leaf(self) -> bool:
        """Whether it looks at each leaf as such."""
        by_leaf = self.contract.by_leaf
        return by_leaf is True or by_leaf in self.variant

    def make(self, **arguments: Any) -> optax.GradientTransformation:
        """Make the thing itself, from Python numbers unless they are replaced."""
        return self.entry.make(**{**self.variant, **arguments})

    def optimizer(self, **arguments: Any) -> optax.GradientTransformationExtraArgs:
        """Make a whole optimizer of it."""
        made = self.entry.optimizer(**{**self.variant, **arguments})
        return optax.with_extra_args_support(made)

    def extra_args(
        self, value: Any, gradient: Any, key: Any, params: Any, more: Any = ()
    ) -> dict[str, Any]:
        """Return the extra arguments that the entry needs, and some others by name."""
        known = {"value": value, "grad_fn": gradient, "key": key}
        wanted = self.needs.union(more)
        if "value_fn" in wanted:
            known["grad"] = gradient(params)
            known["value_fn"] = bowl_through(params, value, known["grad"])
        if "micro_norms" in wanted:
            known["micro_norms"] = micro_norms(value, global_norm(gradient(params)))
        return {name: known[name] for name in known if name in wanted}

    def update(self, optimizer, gradients, state, params, value, more=()):
        """Update with the extra arguments that the entry needs."""
        key = jax.random.key(0)
        extra_args = self.extra_args(value, lambda params: gradients, key, params, more)
        return optimizer.update(gradients, state, params, **extra_args)


def micro_norms(value: Any, norm: Any) -> Any:
    """Make norms of micro-batch gradients that spread more as the loss grows."""
    parts = jnp.arange(1, 4, dtype=jnp.float32) / 8
    return norm * (1 + parts * jnp.asarray(value).astype(jnp.float32))


def bowl_through(params: Any, value: Any, gradient: Any) -> Any:
    """Make a loss with this value and gradient here, and curvature 1 everywhere."""

    def loss(others):
        trees = (params, others, gradient)
        columns = [jax.tree.leaves(tree, is_leaf=is_placeholder) for tree in trees]
        total = jnp.asarray(value).astype(jnp.result_type(float))
        for leaves in zip(*columns, strict=True):
            if all(map(is_trained, leaves)):
                here, there, slope = (
                    jnp.asarray(x).astype(kept_dtype(total.dtype, dtype_of(x)))
                    for x in leaves
                )
                way = there - here
                total += jnp.sum(inner(slope, way) + abs_sq(way) / 2)
        return total

    return loss


def _is_structure(value: Any) -> bool:
    kinds = bool | str | optax.GradientTransformation
    return value is None or isinstance(value, kinds) or callable(value)


CASES = [
    Case(entry, variant)
    for entry in catalog.ENTRIES
    for variant in ({}, *entry.variants)
]


class Feed(NamedTuple):
    """What a run receives at each step: arrays with a leading axis of steps.

    `weight` times the gradient and the loss of the problem is added, so a weight of 0
    is a run along the given gradients and 1, with zeros in the rest, is real training.
    """

    gradients: Any
    values: Any
    weight: Any


class Trace(NamedTuple):
    """What a run did at each step; `finite` is about the state after it."""

    params: Any
    updates: Any
    values: Any
    finite: Any


class Stepper(NamedTuple):
    """A compiled step, and a list that grows by one whenever it is traced."""

    step: Any
    traces: list[str]


def given_feed(steps: int = STEPS) -> Feed:
    """Make random gradients, and values that fall and then stay where they are."""
    random = np.random.default_rng(7)
    gradients = tree_of_steps(random.normal(size=(steps, SIZE)))
    falling = np.exp(-np.arange(steps) / 5) + 0.01 * random.normal(size=steps)
    return Feed(gradients, real(1 + falling), real(np.zeros(steps)))


def training_feed(problem: str = "quadratic") -> Feed:
    """Make a feed that adds nothing to the problem's own gradients and losses."""
    start = PROBLEMS[problem].start

    def zeros_like(x):
        dtype = kept_dtype(jnp.result_type(float), x.dtype)
        return np.zeros((STEPS, *x.shape), dtype)

    zeros = jax.tree.map(zeros_like, start)
    return Feed(zeros, real(np.zeros(STEPS)), real(np.ones(STEPS)))


def real(array: Any) -> np.ndarray:
    """Cast to the widest float in use: float32, or float64 under x64."""
    return np.asarray(array).astype(jnp.result_type(float))


def tree_of_steps(array: np.ndarray) -> dict[str, np.ndarray]:
    """Make a tree of the toy problems' shapes, with a leading axis of steps."""
    steps = len(array)
    return {
        "matrix": real(array[:, :-1].reshape(steps, *SHAPES["matrix"])),
        "scalar": real(array[:, -1]),
    }


def start() -> dict[str, jax.Array]:
    """Make fresh parameters, as arrays that may be donated."""
    vector = np.random.default_rng(3).normal(size=SIZE)
    return jax.tree.map(lambda x: jnp.array(real(x)), tree_of(vector))


def all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point or complex element is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    inexact = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in inexact] or [True]).all()


@functools.lru_cache(maxsize=8)
def trainer(case: Case, problem: str) -> Any:
    """Compile `run(hyperparameters, params, state, feed)`: a scan over the feed."""
    loss = PROBLEMS[problem].loss

    def run(hyperparameters, params, state, feed):
        optimizer = case.optimizer(**hyperparameters)

        def step(carry, fed):
            params, state, key = carry
            key, now = jax.random.split(key)
            weight = fed.weight

            def gradient(params):
                own = steepest(jax.grad(loss)(params))
                return jax.tree.map(
                    lambda g, d: times(g, weight) + d, own, fed.gradients
                )

            value = jnp.where(weight > 0, loss(params), 0) + fed.values
            extra_args = case.extra_args(value, gradient, now, params)
            updates, state = optimizer.update(
                gradient(params), state, params, **extra_args
            )
            params = optax.apply_updates(params, updates)
            trace = Trace(params, updates, value, all_finite(state))
            return (params, state, key), trace

        carry = (params, state, jax.random.key(0))
        (params, state, _), trace = jax.lax.scan(step, carry, feed)
        return params, state, trace

    return jax.jit(run)


@functools.lru_cache(maxsize=8)
def stepper(case: Case) -> Stepper:
    """Compile `step(hyperparameters, params, state, gradients, value)`, donating."""
    traces = []

    def step(hyperparameters, params, state, gradients, value):
        traces.append("traced")
        optimizer = case.optimizer(**hyperparameters)
        updates, state = case.update(optimizer, gradients, state, params, value)
        return optax.apply_updates(params, updates), state

    return Stepper(jax.jit(step, donate_argnums=(1, 2)), traces)


def train(case: Case, feed: Feed, params: Any = None, **hyperparameters: Any) -> Trace:
    """Run along a feed from random parameters; some hyperparameters may be replaced."""
    hyperparameters = {**case.hyperparameters, **hyperparameters}
    params = start() if params is None else params
    state = case.optimizer(**hyperparameters).init(params)
    return trainer(case, "quadratic")(hyperparameters, params, state, feed)[2]


@functools.lru_cache(maxsize=8)
def given_trace(case: Case) -> Trace:
    """Run along the given gradients, in float32."""
    return train(case, given_feed())


class Plane(NamedTuple):
    """Runs of complex parameters, by what they are for: where they begin, their feeds.

    `phases` have the size 1, one for each coordinate.
    """

    phases: Any
    starts: dict[str, Any]
    feeds: dict[str, Feed]


def plane() -> Plane:
    """Make runs that must follow from each other, or from the real one.

    "line" is the real run, each coordinate turned in its plane; "free" goes anywhere,
    and "turned" is its mirror image, turned. "bad" is the free one with NaN or infinity
    in either part, "zeros" has zeros there, and at "rest" all gradients are 0.
    """
    feed, random = given_feed(), np.random.default_rng(11)
    # A product of phases of rows and of columns, for the methods that turn matrices.
    rows, columns, scalar = (random.uniform(0, 7, size) for size in ((8, 1), 2, ()))
    angles = {"matrix": rows + columns, "scalar": scalar}
    phases = jax.tree.map(lambda x: np.exp(1j * x).astype(np.complex64), angles)

    def turned(tree):
        return jax.tree.map(lambda x, phase: np.asarray(x) * phase, tree, phases)

    def mixed(real_part, imaginary):
        return jax.tree.map(
            lambda x, y: (np.asarray(x) + 1j * np.asarray(y)).astype(np.complex64),
            real_part,
            imaginary,
        )

    first, others = start(), tree_of_steps(random.normal(size=(STEPS, SIZE)))
    free = mixed(feed.gradients, others)
    first_free = mixed(first, jax.tree.map(lambda x: x[0], others))
    bad = free["matrix"].copy()
    for step, poison in {0: complex(np.nan, 1), 9: complex(1, np.inf)}.items():
        bad[step, 0, 0] = poison
    gradients = {
        "line": turned(feed.gradients),
        "free": free,
        "turned": turned(jax.tree.map(np.conj, free)),
        "bad": {**free, "matrix": bad},
        "zeros": {**free, "matrix": np.where(np.isfinite(bad), bad, 0)},
        "rest": jax.tree.map(np.zeros_like, free),
    }
    starts = dict.fromkeys(gradients, first_free) | {
        "line": turned(first),
        "turned": turned(jax.tree.map(np.conj, first_free)),
    }
    feeds = {name: feed._replace(gradients=tree) for name, tree in gradients.items()}
    return Plane(phases, starts, feeds)
