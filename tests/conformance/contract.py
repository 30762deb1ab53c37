"""The contract that every method keeps: one function a point, collected in `POINTS`.

Each takes a case, an entry of the catalogue with a variant, and raises where the case
does not keep the point. `test_contract.py` holds the whole catalogue to it;
`test_contract_has_teeth.py` shows each of them failing on a method that is broken.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.cases import (
    STEPS,
    all_finite,
    given_feed,
    given_trace,
    plane,
    start,
    stepper,
    train,
    trainer,
    training_feed,
)
from conformance.contracts import contract_of
from conformance.problems import PROBLEMS, SHAPES, vector_of
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from adaptax import catalog, controllers, optimizers, reading
from adaptax._core import rates, schedule
from adaptax._core.leaves import real_dtype

MIXED = {"matrix": "bfloat16", "scalar": "float16", "other": "float32"}
DTYPES = {
    "float32": (dict.fromkeys(SHAPES, "float32"), False),
    "bfloat16": (dict.fromkeys(SHAPES, "bfloat16"), False),
    "float16": (dict.fromkeys(SHAPES, "float16"), False),
    "mixed": (MIXED, False),
    "float32 with x64": (dict.fromkeys(SHAPES, "float32"), True),
    "float64": (dict.fromkeys(SHAPES, "float64"), True),
    "complex64": (dict.fromkeys(SHAPES, "complex64"), False),
    "complex64 and half": ({"matrix": "complex64", "scalar": "bfloat16"}, False),
    "complex128": (dict.fromkeys(SHAPES, "complex128"), True),
}
"""Trees of dtypes, and whether x64 is enabled."""


@contextlib.contextmanager
def control_in_python():
    """Branch and loop in Python, as `jax.disable_jit` does, but jit all the rest.

    `lax.cond` and `lax.while_loop`, outside a program, are compiled at every call.
    """

    def cond(pred, true_fun, false_fun, *operands, **operand):
        if isinstance(pred, jax.core.Tracer):
            return programs["cond"](pred, true_fun, false_fun, *operands, **operand)
        return (true_fun if pred else false_fun)(*operands, *operand.values())

    def while_loop(cond_fun, body_fun, init_val):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(init_val)):
            return programs["while_loop"](cond_fun, body_fun, init_val)
        while cond_fun(init_val):
            init_val = body_fun(init_val)
        return init_val

    programs = {"cond": jax.lax.cond, "while_loop": jax.lax.while_loop}
    with mock.patch.multiple(jax.lax, cond=cond, while_loop=while_loop):
        yield


def check_abstract_init(case):
    """1: `init` takes shapes and dtypes alone."""
    optimizer, params = case.optimizer(), start()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    concrete = optimizer.init(params)
    _assert_same_types(optimizer.init(shapes), concrete, "init of shapes")
    _assert_same_types(jax.eval_shape(optimizer.init, shapes), concrete, "eval_shape")


def check_state_types(case):
    """2: The types of the state are a fixed point of `update`, weak types included."""
    for name in DTYPES:
        traced = _traced(case, name)
        _assert_same_types(traced.new_state, traced.state, name)
        _assert_same_types(traced.state_of_cond, traced.state, f"{name}, in cond")


def check_update_types(case):
    """3: Updates keep the dtypes and the structure of the parameters."""
    for name in DTYPES:
        traced = _traced(case, name)
        _assert_same_types(traced.updates, traced.params, name)


def check_no_recompilation(case):
    """4: Neither the second step nor another hyperparameter is traced again."""
    step, traces = stepper(case)
    hyperparameters, params = case.hyperparameters, start()
    state = case.optimizer(**hyperparameters).init(params)
    ((gradients, value),) = _inputs(1)
    params, state = step(hyperparameters, params, state, gradients, value)
    count = len(traces)
    for other in (hyperparameters, *_changed(hyperparameters)):
        params, state = step(other, params, state, gradients, value)
        chex.assert_tree_all_finite(params)
    assert len(traces) == count, "a later step was traced again"


def check_jit(case):
    """5: It is the same without jit, and with Python numbers as hyperparameters."""
    eager = _eager_updates(case)
    compiled = jax.tree.map(lambda x: x[:12], given_trace(case).updates)
    _assert_close(_to_compare(case, eager), _to_compare(case, compiled), 2e-5)


def check_vmap(case):
    """6: `vmap` over every float hyperparameter equals a Python loop."""
    floats = {
        name: value
        for name, value in case.hyperparameters.items()
        if isinstance(value, np.floating)
    }
    members = [floats, *_changed(floats)]
    stacked = {name: np.stack([member[name] for member in members]) for name in floats}
    if not floats:
        return
    together = jax.jit(
        jax.vmap(lambda member: train(case, given_feed(), **member).updates)
    )(stacked)
    for index, member in enumerate(members):
        alone = train(case, given_feed(), **member).updates
        batched = jax.tree.map(lambda x, index=index: x[index], together)
        batched, alone = _to_compare(case, batched), _to_compare(case, alone)
        _assert_close(batched, alone, 2e-5, f"member {index}")


def check_scan(case):
    """7: As the carry of `lax.scan` it does what it does step by step."""
    hyperparameters, params = case.hyperparameters, start()
    state = case.optimizer(**hyperparameters).init(params)
    for index, (gradients, value) in enumerate(_inputs(12)):
        params, state = stepper(case).step(
            hyperparameters, params, state, gradients, value
        )
        scanned = jax.tree.map(lambda x, at=index: x[at], given_trace(case).params)
        _assert_close(params, scanned, 1e-5, f"step {index}")


@control_in_python()
def check_extra_arguments(case):
    """8: What it does not know it ignores; what it needs and is not given it names."""
    optimizer, params = case.optimizer(), start()
    ((gradients, value),) = _inputs(1)
    state = optimizer.init(params)
    extra_args = case.extra_args(
        value, lambda params: gradients, jax.random.key(0), params
    )
    plain = optimizer.update(gradients, state, params, **extra_args)
    unknown = {"unknown": "text", "value": np.nan, "grad_fn": None, "key": None}
    with_more = optimizer.update(gradients, state, params, **{**unknown, **extra_args})
    chex.assert_trees_all_equal(with_more, plain)
    for name in extra_args:
        rest = {other: extra_args[other] for other in extra_args if other != name}
        error = _error_of(optimizer.update, gradients, state, params, **rest)
        assert isinstance(error, TypeError), f"without {name}: {error!r}"
        assert f"`{name}`" in str(error), f"the message does not name {name}: {error}"
    if "params" in case.needs:
        error = _error_of(optimizer.update, gradients, state, **extra_args)
        assert isinstance(error, ValueError), f"without params: {error!r}"
        assert "params" in str(error), f"the message does not name params: {error}"
    else:
        chex.assert_trees_all_equal(
            optimizer.update(gradients, state, **extra_args), plain
        )


@control_in_python()
def check_seat(case):
    """9: Its seat takes numbers, functions and rates; a rate fits into every seat."""
    inputs = _inputs(3)
    expected = jax.tree.map(lambda x: x[:3], _eager_updates(case))
    if not _has_seat(case) and case.entry.family == "optimizer":
        takes = inspect.signature(case.entry.factory).parameters
        assert "learning_rate" not in takes, "it has a seat that it does not declare"
        return
    if not _has_seat(case):
        for seat in ([1.0, case.make()], (case.make(), 1.0)):
            seated = optimizers.momentum(seat, b=0.0)
            _assert_close(_updates(case, seated, inputs), expected, 1e-6)
        return
    rate = case.arguments["learning_rate"]
    seats = {
        "an array": jnp.asarray(rate),
        "a function": lambda step: jnp.full(step.shape, rate),
        "a schedule": schedule.constant(rate),
        "a schedule of Optax": optax.constant_schedule(rate),
        "a chain of rates": optax.chain(
            schedule.constant(rate), schedule.constant(1.0)
        ),
        "a chain with a controller": optax.chain(
            schedule.constant(rate), controllers.reduce_on_plateau()
        ),
        "a list": [rate, controllers.reduce_on_plateau()],
        "a tuple": (jnp.asarray(rate), lambda step: jnp.ones(step.shape)),
        "a transformation of Optax": optax.scale(rate),
    }
    if case.entry.wraps_rate:
        del seats["a transformation of Optax"]  # its rate is in no state, to be read
    for name, seated in seats.items():
        optimizer = case.optimizer(learning_rate=seated)
        updates = _updates(case, optimizer, inputs, more=["value"])
        _assert_close(updates, expected, 1e-6, name)


def check_composition(case):
    """10: In the wrappers of Optax and of adaptax it goes on doing what it does."""
    _assert_wrapped(case)
    expected = jax.tree.map(lambda x: x[:2], _eager_updates(case))
    for name, (wrap, every, more) in WRAPPERS.items():
        if case.by_leaf and name in REGROUPING:
            error = _error_of(wrap(case).init, start())
            assert isinstance(error, ValueError), f"{name} takes it: {error!r}"
            continue
        repeated = [pair for pair in _inputs(2) for _ in range(every)]
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes types in places
            updates, first, state = _run(case, wrap(case), repeated, more)
        _assert_same_types(state, first, name)
        moves = jax.tree.map(lambda x, every=every: x[every - 1 :: every], updates)
        _assert_close(moves, expected, 2e-5, name)


def _wrappers_of_optax() -> dict[str, tuple[Callable, int, Any]]:
    trained = dict.fromkeys(SHAPES, True)
    labels = dict.fromkeys(SHAPES, "trained")
    groups = {"frozen": optax.set_to_zero()}
    wraps = {
        "chain": lambda case: optax.chain(case.optimizer(), optax.scale(1.0)),
        "masked": lambda case: optax.masked(case.optimizer(), trained),
        "partition": lambda case: optax.partition(
            {"trained": case.optimizer(), **groups}, labels
        ),
        "inject_hyperparams": lambda case: _injected(case),
        "apply_if_finite": lambda case: optax.apply_if_finite(case.optimizer(), 3),
    }
    once = {name: (wrap, 1, ()) for name, wrap in wraps.items()}
    return once | {"MultiSteps": (lambda case: _multi_steps(case.optimizer()), 2, ())}


def _wrappers_of_adaptax() -> dict[str, tuple[Callable, int, Any]]:
    def wrap(entry, steady):
        return lambda case: entry.make(inner=case.optimizer(), **steady)

    return {
        entry.name: (wrap(entry, contract.steady), contract.calls, entry.needs)
        for entry, contract in CONTRACTS_OF_WRAPPERS
        if contract.steady is not None
    }


CONTRACTS_OF_WRAPPERS = [
    (entry, contract_of(entry))
    for entry in catalog.ENTRIES
    if entry.family == "wrapper" and not entry.wraps_rate
]


WRAPPERS = _wrappers_of_optax() | _wrappers_of_adaptax()
"""What leaves the updates as they are, when each input is repeated so often and it is
with the extra arguments that it needs beside the case's."""

REGROUPING = {
    entry.name for entry, contract in CONTRACTS_OF_WRAPPERS if contract.regroups
}
"""The wrappers that put leaves together, and refuse what looks at single ones."""


def _assert_wrapped(case):
    """Put it into the wrappers that change its steps: types are kept, numbers finite.

    Nothing is compiled; the optimizers, of which the other families make theirs, are
    run.
    """
    (first, second), params = _inputs(2), start()
    for entry, contract in CONTRACTS_OF_WRAPPERS:
        if contract.steady is not None:
            continue
        optimizer = optax.with_extra_args_support(entry.make(inner=case.optimizer()))

        @jax.jit  # traced once for the same types
        def step(
            params, state, gradients, value, optimizer=optimizer, more=entry.needs
        ):
            updates, state = case.update(
                optimizer, gradients, state, params, value, more
            )
            return optax.apply_updates(params, updates), state

        def run(params, optimizer=optimizer, step=step):
            before = state = optimizer.init(params)
            for gradients, value in (first, second):
                params, state = step(params, state, gradients, value)
            return before, state, params

        before, after, moved = jax.eval_shape(run, params)
        _assert_same_types(after, before, entry.name)
        _assert_same_types(moved, params, entry.name)
        if case.entry.family == "optimizer" and not case.variant:
            with jax.disable_jit():
                _, state, moved = run(params)
            assert all_finite((state, moved)), f"{entry.name}: it is not finite"


def check_sharding(case):
    """11: States and updates keep the shardings, and equal those of one device."""
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    rows = NamedSharding(mesh, PartitionSpec("devices"))
    places = {"matrix": rows, "scalar": NamedSharding(mesh, PartitionSpec())}
    hyperparameters, ((gradients, value),) = case.hyperparameters, _inputs(1)
    params, gradients = (jax.device_put(x, places) for x in (start(), gradients))
    state = case.optimizer(**hyperparameters).init(params)
    _assert_sharded(state, rows, "the first state")
    arguments = (hyperparameters, params, state, gradients, value)
    compiled = stepper(case).step.lower(*arguments).compile()
    if case.contract.elementwise:
        text = compiled.as_text()
        assert "all-gather" not in text, "each device gathers the whole"
        assert "all-reduce" not in text, "the devices wait for each other"
    params, state = compiled(*arguments)
    _assert_sharded((params, state), rows, "after a step")
    first = jax.tree.map(lambda x: x[0], given_trace(case).params)
    _assert_close(params, first, 1e-5)


@control_in_python()
def check_serialization(case):
    """12: The state survives flattening, saving and loading."""
    optimizer, params = case.optimizer(), start()
    ((gradients, value),) = _inputs(1)
    state = optimizer.init(params)
    _, state = case.update(optimizer, gradients, state, params, value)
    expected = case.update(optimizer, gradients, state, params, value)
    leaves, structure = jax.tree.flatten(state)
    file = io.BytesIO()
    np.savez(file, *leaves)
    file.seek(0)
    loaded = structure.unflatten(map(jnp.asarray, np.load(file).values()))
    packed = flax.serialization.to_bytes(state)
    unpacked = flax.serialization.from_bytes(optimizer.init(params), packed)
    for restored in (loaded, unpacked):
        chex.assert_trees_all_equal_shapes_and_dtypes(restored, state)
        again = case.update(optimizer, gradients, restored, params, value)
        chex.assert_trees_all_equal(again, expected)


@control_in_python()
def check_learning_rate(case):
    """13: `learning_rate(state)` is the rate that was applied."""
    if case.entry.rate != "factor":
        none = case.entry.rate == "none"
        (_assert_no_rate if none else _assert_rate_of_reference)(case)
        return
    params, measured, unit = start(), case.optimizer(), optimizers.gradient_descent(1.0)
    waits = case.entry.family == "wrapper" and not case.entry.wraps_rate
    if waits:
        measured, unit = case.optimizer(inner=_steady(_falling)), _steady(1.0)
    elif _has_seat(case):
        measured, unit = case.optimizer(learning_rate=_falling), _at_rate_one(case)
    state, unit_state = measured.init(params), unit.init(params)
    moves = 0
    for gradients, value in _inputs(12):
        updates, state = case.update(measured, gradients, state, params, value)
        whole, unit_state = case.update(unit, gradients, unit_state, params, value)
        rate = reading.learning_rate(state)
        assert rate.shape == (), f"the rate has shape {rate.shape}"
        assert rate.dtype == jnp.float32, f"the rate has dtype {rate.dtype}"
        if waits and not vector_of(updates).any():
            continue
        scaled = jax.tree.map(lambda x, rate=rate: x * rate, whole)
        _assert_close(updates, scaled, 1e-6)
        moves += 1
    assert moves, "nothing was ever applied"


def check_zero_gradients(case):
    """14: Zero gradients move nothing."""
    feed = given_feed()
    zeros = jax.tree.map(np.zeros_like, feed.gradients)
    trace = train(case, feed._replace(gradients=zeros))
    chex.assert_tree_all_finite(trace.params)
    assert np.all(trace.finite), "the state is not finite"
    assert not vector_of(trace.updates).any(), "zero gradients moved the parameters"


def check_nonfinite(case):
    """15: What is not finite never stays in a state, and training goes on.

    A bad gradient moves nothing further than a zero would; many of them in a row move
    less and less. A parameter that is not finite disturbs nothing but itself.
    """
    feed, poisons = given_feed(), {0: np.nan, 9: np.inf, 20: -np.inf, 30: 1e30}
    values, matrix = feed.values.copy(), feed.gradients["matrix"].copy()
    for step, poison in poisons.items():
        values[step + 2] = matrix[step, 0, 0] = poison
    gradients = {**feed.gradients, "matrix": matrix}
    in_a_row = np.isin(np.arange(STEPS), range(10, 45))

    def spoiled(array):
        bad = in_a_row.reshape(-1, *(1 for _ in array.shape[1:]))
        return np.where(bad, np.nan, array).astype(array.dtype)

    bad = ~np.isfinite(matrix)
    zeros = {**gradients, "matrix": np.where(bad, 0, matrix)}
    feeds = {
        "gradients": feed._replace(gradients=gradients),
        "values": feed._replace(values=values),
        "all for 35 steps": jax.tree.map(spoiled, feed)._replace(weight=feed.weight),
        "zeros": feed._replace(gradients=zeros),
    }
    hyperparameters = case.hyperparameters
    state = case.optimizer(**hyperparameters).init(start())
    run, updates = trainer(case, "quadratic"), {}
    for name, poisoned in feeds.items():
        *_, trace = run(hyperparameters, start(), state, poisoned)
        chex.assert_tree_all_finite(trace.params)
        assert np.all(trace.finite), "the state is not finite"
        assert vector_of(trace.updates)[-5:].all(), "training does not go on"
        updates[name] = trace.updates
    if case.contract.elementwise:
        clean = vector_of(given_trace(case).updates)[:, 1:]
        for name in ("gradients", "values"):
            np.testing.assert_allclose(vector_of(updates[name])[:, 1:], clean, 1e-6)
    _assert_no_further(updates["gradients"]["matrix"], updates["zeros"]["matrix"], bad)
    sizes = np.linalg.norm(vector_of(updates["all for 35 steps"]), axis=-1)
    assert sizes[44] <= 0.5 * sizes[9], "it moves on without any gradient"
    _assert_bad_parameter_stays_alone(case)


def _assert_bad_parameter_stays_alone(case):
    """Begin with a NaN in one coordinate: it stays where it is, also in the state.

    The others train on; or, where a scalar of all coordinates is at a loss, nothing
    moves and each step is counted as skipped.
    """
    hyperparameters, params = case.hyperparameters, start()
    params["matrix"] = params["matrix"].at[0, 0].set(np.nan)
    state = case.optimizer(**hyperparameters).init(params)
    run = trainer(case, "quadratic")
    _, state, trace = run(hyperparameters, params, state, given_feed())
    others = vector_of(trace.updates)[:, 1:]
    assert np.isfinite(others).all(), "a parameter of NaN spoils the others"
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            spoiled = np.sum(~np.isfinite(leaf))
            assert spoiled <= (np.ndim(leaf) > 0), "it spreads in the state"
    if case.contract.elementwise:
        clean = vector_of(given_trace(case).updates)[:, 1:]
        np.testing.assert_allclose(others, clean, 1e-6, err_msg="it moves the others")
    counts = reading.telemetry(state).items()
    skipped = any(count > 0 for name, count in counts if name.endswith("skipped"))
    assert others[-5:].any() or skipped, "it ends training, and nothing counts that"


def _assert_no_further(moved, with_zeros, bad):
    """Compare how far two runs moved the bad elements of a matrix, or the whole of it.

    A method that leaves a whole matrix where it is may let it decay.
    """
    ours, theirs = np.abs(np.asarray(moved)), np.abs(np.asarray(with_zeros))
    for step in np.flatnonzero(bad.any(axis=(1, 2))):
        elements = ours[step][bad[step]] <= 1.001 * theirs[step][bad[step]] + 1e-12
        whole = np.linalg.norm(ours[step]) <= 1.001 * np.linalg.norm(theirs[step])
        assert elements.all() or whole, "a bad gradient moved further than a zero"


def check_goals(case):
    """16: It reaches its goals on the toy problems that it declares."""
    for problem, goal in case.contract.goals.items():
        if case.variant and not PROBLEMS[problem].with_variants:
            continue
        hyperparameters = dict(case.hyperparameters)
        for name, value in goal.hyperparameters.items():
            hyperparameters[name] = np.asarray(value, hyperparameters[name].dtype)
        params = jax.tree.map(jnp.array, PROBLEMS[problem].start)
        before = PROBLEMS[problem].loss(params)
        state = case.optimizer(**hyperparameters).init(params)
        for _ in range(goal.steps // STEPS):
            params, state, _ = trainer(case, problem)(
                hyperparameters, params, state, training_feed(problem)
            )
        reached = float(PROBLEMS[problem].loss(params) / before)
        assert reached <= goal.tolerance, f"{problem}: {reached:.2g} of the first loss"


def check_reference(case):
    """17: In float64 it equals its NumPy reference over 50 steps."""
    reference = case.contract.reference
    inferred = case.entry.rate in ("inferred", "path")
    with jax.enable_x64(True):
        feed = given_feed()
        updates = vector_of(train(case, feed).updates)
        first, gradients = vector_of(start()), vector_of(feed.gradients)
    arguments = dict(case.arguments)
    if case.entry.family in ("optimizer", "estimate", "wrapper"):
        if _has_seat(case):
            arguments["learning_rate"] = float(np.float32(arguments["learning_rate"]))
        expected = reference(first, gradients, feed.values, **arguments)
        path = (
            [first, *(point for point, _ in expected)]
            if inferred
            else [first, *expected]
        )
        expected = np.diff(np.stack(path), axis=0)
        expected, updates = _to_compare(case, expected), _to_compare(case, updates)
        # An inferred rate is one scalar in float32, as a controller's scale is.
        inferred = inferred or case.entry.family == "estimate"
        tolerance = 2e-6 if inferred else 1e-10
    else:
        if case.entry.family == "schedule":
            applied = [reference(step, **arguments) for step in range(STEPS)]
        else:
            if "params" in case.needs:
                arguments["first"] = first
            applied = list(reference(feed.values, gradients, **arguments))
        expected = -np.asarray(applied)[:, None] * gradients
        tolerance = 2e-6
    _assert_close_vectors(updates, expected, tolerance)


def check_optax(case):
    """18: It equals Optax over 20 steps, or the catalogue says why it cannot."""
    entry = case.entry
    if case.contract.optax_twin is None or entry.differs:
        assert entry.differs, "there is neither a twin in Optax nor a reason why not"
        return
    if case.variant:
        return
    twin = case.contract.optax_twin()
    if entry.family == "schedule":
        twin = optax.sgd(twin)
    elif entry.family == "controller":
        twin = optax.chain(twin, optax.scale(-1.0))
    with jax.numpy_dtype_promotion("standard"):
        expected = _updates(case, twin, _inputs(20))
    ours = jax.tree.map(lambda x: x[:20], given_trace(case).updates)
    _assert_close(ours, expected, 2e-5)


def check_donation(case):
    """19: Parameters and state can be donated from the first step on."""
    hyperparameters, params = case.hyperparameters, start()
    state = case.optimizer(**hyperparameters).init(params)
    for gradients, value in _inputs(2):
        given = jax.tree.leaves((params, state))
        params, state = stepper(case).step(
            hyperparameters, params, state, gradients, value
        )
        kept = sum(not leaf.is_deleted() for leaf in given)
        assert kept == 0, f"{kept} donated arrays were not used"
    chex.assert_tree_all_finite(params)


@control_in_python()
def check_leaves(case):
    """20: What is not trained passes through; empty trees work."""
    optimizer, ((gradients, value),) = case.optimizer(), _inputs(1)
    others = {
        "none": None,
        "masked": optax.MaskedNode(),
        "integer": jnp.ones((8, 2), jnp.int32),
        "boolean": jnp.ones((), bool),
        "without_gradient": np.zeros((8, 2), jax.dtypes.float0),
        "empty": jnp.zeros((0, 3)),
    }
    alone = _one_update(case, optimizer, start(), gradients, value)
    params = {**start(), **others, "without_gradient": jnp.ones((8, 2), jnp.int32)}
    among = _one_update(case, optimizer, params, {**gradients, **others}, value)
    _assert_close({name: among[name] for name in SHAPES}, alone, 1e-6)
    rest = {name: among[name] for name in others}
    chex.assert_trees_all_equal_structs(rest, others)
    for ours, given in zip(*map(jax.tree.leaves, (rest, others)), strict=True):
        assert ours.dtype == given.dtype, f"{given.dtype} has become {ours.dtype}"
        np.testing.assert_array_equal(ours, given)
    for empty in ({}, (), {"none": None}):
        assert _one_update(case, optimizer, empty, empty, value) == empty


def check_docstring(case):
    """21: The documentation has an equation, the source, and the true defaults."""
    factory = case.entry.factory
    module = inspect.getdoc(inspect.getmodule(factory)) or ""
    text = " ".join(f"{module} {inspect.getdoc(factory)}".split())
    assert "←" in text or " = " in text, "there is no equation"
    assert "Source:" in text, "there is no source"
    assert case.entry.source in text, f"{case.entry.source!r} is not in it"
    documented = {**_documented(case.entry.direction), **_documented(factory)}
    for name, parameter in inspect.signature(factory).parameters.items():
        assert name in documented, f"{name} is not documented"
        for description in (documented, _documented(case.entry.direction)):
            for stated in _stated_defaults(description.get(name, ""), module):
                true = parameter.default
                assert true in (stated, None), f"{name}: {stated} is stated, not {true}"


def check_complex(case):
    """22: A complex number is trained as a point of the plane.

    Then a run along a line through 0 is the real run, and a run in turned planes is the
    run itself, turned. In either part, what is not finite counts as 0.
    """
    phases, starts, feeds = plane()

    def stacked(trees):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *trees.values())

    run = jax.jit(jax.vmap(lambda params, feed: train(case, feed, params)))
    traces = run(stacked(starts), stacked(feeds))
    moves = {
        name: jax.tree.map(lambda x, at=at: np.asarray(x[at]), traces.updates)
        for at, name in enumerate(feeds)
    }

    def turned(updates):
        return jax.tree.map(lambda x, phase: np.asarray(x) * phase, updates, phases)

    real_run = turned(_to_compare(case, given_trace(case).updates))
    _assert_close(_to_compare(case, moves["line"]), real_run, 2e-4, "on a line")
    image = turned(jax.tree.map(np.conj, _to_compare(case, moves["free"])))
    _assert_close(_to_compare(case, moves["turned"]), image, 2e-4, "turned")
    assert np.all(traces.finite), "the state is not finite"
    chex.assert_tree_all_finite(traces.params)
    goes_on = vector_of(moves["bad"])[-5:].any(axis=0).all()
    assert goes_on, "training does not go on"
    if "nonfinite" not in case.contract.breaks:
        bad = ~np.isfinite(feeds["bad"].gradients["matrix"])
        _assert_no_further(moves["bad"]["matrix"], moves["zeros"]["matrix"], bad)
    if "zero_gradients" not in case.contract.breaks:
        assert not vector_of(moves["rest"]).any(), "zero gradients moved it"
    _assert_complex_without_jit(case, starts["free"], feeds["free"], moves["free"])


@control_in_python()
def _assert_complex_without_jit(case, params, feed, expected):
    """Take two steps without jit, the state saved and loaded in between."""
    optimizer, moves = case.optimizer(), []
    state = optimizer.init(params)
    for at in range(2):
        gradients = jax.tree.map(lambda x, at=at: x[at], feed.gradients)
        updates, new = case.update(optimizer, gradients, state, params, feed.values[at])
        saved = flax.serialization.to_bytes(new)
        state = flax.serialization.from_bytes(state, saved)
        chex.assert_trees_all_equal(state, new)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
        params = optax.apply_updates(params, updates)
        moves.append(updates)
    moves = jax.tree.map(lambda *leaves: np.stack(leaves), *moves)
    expected = jax.tree.map(lambda x: x[:2], _to_compare(case, expected))
    _assert_close(_to_compare(case, moves), expected, 2e-4, "without jit")


POINTS: dict[str, Callable[[Any], None]] = {
    "abstract_init": check_abstract_init,
    "state_types": check_state_types,
    "update_types": check_update_types,
    "no_recompilation": check_no_recompilation,
    "jit": check_jit,
    "vmap": check_vmap,
    "scan": check_scan,
    "extra_arguments": check_extra_arguments,
    "seat": check_seat,
    "composition": check_composition,
    "sharding": check_sharding,
    "serialization": check_serialization,
    "learning_rate": check_learning_rate,
    "zero_gradients": check_zero_gradients,
    "nonfinite": check_nonfinite,
    "goals": check_goals,
    "reference": check_reference,
    "optax": check_optax,
    "donation": check_donation,
    "leaves": check_leaves,
    "docstring": check_docstring,
    "complex": check_complex,
}
"""The points by the names under which `Contract.breaks` declares exceptions."""


class _Traced(NamedTuple):
    params: Any
    updates: Any
    state: Any
    new_state: Any
    state_of_cond: Any


@functools.lru_cache(maxsize=16)
def _traced(case, name) -> _Traced:
    """Trace an update of parameters of some dtypes; nothing is compiled."""
    dtypes, x64 = DTYPES[name]
    with jax.enable_x64(x64):
        params = {
            key: jax.ShapeDtypeStruct(SHAPES.get(key, (3,)), dtype)
            for key, dtype in dtypes.items()
        }
        weak = dtypes["scalar"] in ("float32", "float64")  # as Python numbers are
        loss_dtype = real_dtype(dtypes["scalar"])
        value = jax.ShapeDtypeStruct((), loss_dtype, weak_type=weak)
        optimizer = case.optimizer()

        @jax.jit  # traced once for the same types
        def update(params, state, value):
            return case.update(optimizer, params, state, params, value)

        def maybe(flag, params, state, value):
            return jax.lax.cond(
                flag, lambda state: update(params, state, value)[1], lambda x: x, state
            )

        state = jax.eval_shape(optimizer.init, params)
        updates, new_state = jax.eval_shape(update, params, state, value)
        flag = jax.ShapeDtypeStruct((), bool)
        in_cond = jax.eval_shape(maybe, flag, params, new_state, value)
    return _Traced(params, updates, state, new_state, in_cond)


def _assert_same_types(tree, expected, label):
    """Compare structure, shapes, dtypes and weak types; name the first difference."""
    ours, wanted = jax.tree.structure(tree), jax.tree.structure(expected)
    assert ours == wanted, f"{label}: structure {ours}, not {wanted}"
    leaves = jax.tree.leaves_with_path(tree)
    for (path, leaf), other in zip(leaves, jax.tree.leaves(expected), strict=True):
        kinds = [
            (x.shape, str(x.dtype), "weak" if x.weak_type else "strong")
            for x in (leaf, other)
        ]
        where = jax.tree_util.keystr(path)
        assert kinds[0] == kinds[1], f"{label}: {where} is {kinds[0]}, not {kinds[1]}"


def _assert_close(tree, expected, tolerance, label=""):
    """Compare trees of arrays; errors are measured by the largest element of a step."""
    chex.assert_trees_all_equal_structs(tree, expected)
    _assert_close_vectors(vector_of(tree), vector_of(expected), tolerance, label)


def _assert_close_vectors(ours, wanted, tolerance, label=""):
    assert ours.shape == wanted.shape, f"{label}: {ours.shape}, not {wanted.shape}"
    size = np.abs(wanted).max(axis=-1, keepdims=True)
    size = np.maximum(size, 1e-3 * size.max())
    worst = np.max(np.abs(ours - wanted) / np.where(size > 0, size, 1))
    assert worst <= tolerance, f"{label}: off by {worst:.2g} of the largest element"


def _assert_sharded(tree, sharding, label):
    for path, leaf in jax.tree.leaves_with_path(tree):
        if leaf.shape == SHAPES["matrix"]:
            kept = leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
            where = f"{label}{jax.tree_util.keystr(path)}"
            assert kept, f"{where} has the sharding {leaf.sharding}"


def _inputs(steps) -> list[tuple[Any, Any]]:
    """Return the first of the given gradients and values, as pairs."""
    feed = given_feed()
    return [
        (jax.tree.map(lambda x, at=at: x[at], feed.gradients), feed.values[at])
        for at in range(steps)
    ]


def _run(case, optimizer, inputs, more=()):
    """Update step by step, without jit; stack the updates; give both end states."""
    params, collected = start(), []
    optimizer = optax.with_extra_args_support(optimizer)
    state = first = optimizer.init(params)
    with control_in_python():
        for gradients, value in inputs:
            updates, state = case.update(
                optimizer, gradients, state, params, value, more
            )
            params = optax.apply_updates(params, updates)
            collected.append(updates)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *collected), first, state


def _updates(case, optimizer, inputs, more=()):
    return _run(case, optimizer, inputs, more)[0]


@functools.lru_cache(maxsize=8)
def _eager_updates(case):
    """Take 12 steps without jit."""
    return _updates(case, case.optimizer(), _inputs(12))


def _one_update(case, optimizer, params, gradients, value):
    return case.update(optimizer, gradients, optimizer.init(params), params, value)[0]


def _changed(hyperparameters) -> list[dict[str, Any]]:
    """Change each hyperparameter in turn; it stays on its side of 1."""

    def other(value):
        one, most = value.dtype.type(1), value.dtype.type(0.9)
        if not isinstance(value, np.floating):
            return value + one
        return one + most * (value - one) if value > 1 else most * value

    return [
        {**hyperparameters, name: jax.tree.map(other, value)}
        for name, value in hyperparameters.items()
    ]


def _at_rate_one(case):
    """Take the direction downhill, if it takes all the arguments."""
    arguments = {k: v for k, v in case.arguments.items() if k != "learning_rate"}
    direction = case.entry.direction
    if direction and set(arguments) <= set(inspect.signature(direction).parameters):
        return optax.chain(direction(**arguments), optax.scale(-1.0))
    return case.optimizer(learning_rate=1.0)


def _to_compare(case, updates):
    """Return the updates, or the path so far where each is a difference of paths."""
    if case.entry.rate != "path":
        return updates
    return jax.tree.map(lambda x: np.cumsum(np.asarray(x), axis=0), updates)


def _assert_no_rate(case):
    error = _error_of(reading.learning_rate, case.optimizer().init(start()))
    assert isinstance(error, ValueError), "it shows a rate that it declares not to have"


def _assert_rate_of_reference(case):
    """Compare rates and updates with the reference, at a learning rate that falls."""
    with jax.enable_x64(True):
        params, inputs = start(), _inputs(12)
        optimizer = case.optimizer(learning_rate=lambda step: 10 * _falling(step))
        state, first, shown, updates = optimizer.init(params), vector_of(params), [], []
        for gradients, value in inputs:
            update, state = case.update(optimizer, gradients, state, params, value)
            params = optax.apply_updates(params, update)
            shown.append(reading.learning_rate(state))
            updates.append(vector_of(update))
    rate = shown[-1]
    assert rate.shape == (), f"the rate has shape {rate.shape}"
    assert rate.dtype == jnp.float32, f"the rate has dtype {rate.dtype}"
    falling = np.asarray(10 * _falling(np.arange(12)), np.float64)
    arguments = {**case.arguments, "learning_rate": falling}
    gradients = np.stack([vector_of(gradients) for gradients, _ in inputs])
    values = [value for _, value in inputs]
    steps = case.contract.reference(first, gradients, values, **arguments)
    points, expected = zip(*steps, strict=True)
    np.testing.assert_allclose(shown, expected, 2e-6, err_msg="the rate is off")
    path = np.stack([first, *points])
    _assert_close_vectors(np.stack(updates), np.diff(path, axis=0), 2e-6)


def _falling(step):
    return 0.1 / (1 + step.astype(jnp.float32))


def _steady(rate):
    """Go down by the rate in each coordinate, whatever the gradient."""

    def ones(updates, params):
        del params
        return jax.tree.map(jnp.ones_like, updates)

    return optax.chain(optax.stateless(ones), rates.descend(rate))


def _has_seat(case) -> bool:
    return case.entry.has_seat


def _injected(case):
    """Make a case by `optax.inject_hyperparams`, all of its numbers injected."""
    injected = optax.inject_hyperparams(
        case.entry.factory, static_args=sorted(case.structural)
    )
    entry = dataclasses.replace(case.entry, factory=injected)
    return entry.optimizer(**case.variant)


def _multi_steps(optimizer):
    """Keep the extra arguments, which `gradient_transformation()` drops."""
    wrapped = optax.MultiSteps(optimizer, 2)
    return optax.GradientTransformationExtraArgs(wrapped.init, wrapped.update)


def _error_of(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except Exception as error:
        return error
    return None


def _documented(function) -> dict[str, str]:
    """Read what a docstring says about each argument."""
    text = inspect.getdoc(function) or "" if function else ""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", text, re.MULTILINE)
    entries = re.split(r"^    (?=\w+:)", section[1] if section else "", flags=re.M)
    pairs = (entry.split(":", 1) for entry in entries if entry.strip())
    return {name: " ".join(description.split()) for name, description in pairs}


def _stated_defaults(description, module) -> list[float]:
    """Find "by default 0.5" in a description, "λ is 0.5 by default" in the module."""
    number = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
    stated = re.findall(rf"by default {number}", description)
    symbol = re.match(r"[^\W\d_][₀-₉]?(?=[ ,])", description)
    if symbol:
        stated += re.findall(rf"{symbol[0]} is {number} by default", module)
    return [float(value) for value in stated]
