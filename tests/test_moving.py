"""Moving in from Optax: after 7 steps of Optax, 20 of adaptax equal 20 of Optax."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import contract_of

import adaptax
from adaptax._core.handover import gathered
from adaptax.catalog import ENTRIES

PARAMS = {
    "w": jnp.asarray(np.linspace(-1.0, 2.0, 6, dtype=np.float32).reshape(2, 3)),
    "b": jnp.asarray([0.5, -0.25], jnp.float32),
}
COSINE = (
    optax.cosine_decay_schedule(0.1, 40),
    adaptax.cosine(peak=0.1, total_steps=40),
)


def rmsprop_with_momentum(rate):
    return optax.chain(
        adaptax.scale_by_rmsprop(0.9),
        adaptax.descend(rate),
        adaptax.scale_by_momentum(0.8, dampening=0.0),
    )


def clipped(optimizer):
    return optax.chain(optax.clip_by_global_norm(1.0), optimizer)


def partitioned(one, other):
    return optax.partition({"one": one, "other": other}, {"w": "one", "b": "other"})


MOVES = {
    "sgd": (optax.sgd(0.1), adaptax.gradient_descent(0.1)),
    "sgd with a schedule": (
        optax.sgd(COSINE[0]),
        adaptax.gradient_descent(COSINE[1]),
    ),
    "undamped momentum": (
        optax.sgd(0.01, 0.8),
        adaptax.momentum(0.01, 0.8, dampening=0.0),
    ),
    "averaged momentum": (
        optax.sgd(0.01, 0.8),
        adaptax.momentum(0.05, 0.8, dampening=0.8),
    ),
    "Nesterov's momentum": (
        optax.sgd(0.01, 0.8, nesterov=True),
        adaptax.momentum(0.01, 0.8, dampening=0.0, nesterov=True),
    ),
    "adagrad": (
        optax.adagrad(0.1, eps=1e-7),
        adaptax.adagrad(0.1, eps_root=1e-7),
    ),
    "rmsprop": (optax.rmsprop(0.01), adaptax.rmsprop(0.01, 0.9)),
    "rmsprop outside the root": (
        optax.rmsprop(0.01, eps_in_sqrt=False),
        adaptax.rmsprop(0.01, 0.9, eps=1e-8),
    ),
    "rmsprop, centered": (
        optax.rmsprop(0.01, centered=True),
        adaptax.rmsprop(0.01, 0.9, centered=True),
    ),
    "rmsprop, debiased": (
        optax.rmsprop(0.01, bias_correction=True),
        adaptax.rmsprop(0.01, 0.9, debias=True),
    ),
    "rmsprop, centered and debiased": (
        optax.rmsprop(0.01, 0.95, centered=True, bias_correction=True),
        adaptax.rmsprop(0.01, 0.95, centered=True, debias=True),
    ),
    "rmsprop with momentum": (
        optax.rmsprop(0.01, momentum=0.8),
        rmsprop_with_momentum(0.01),
    ),
    "rmsprop with momentum and a schedule": (
        optax.rmsprop(COSINE[0], momentum=0.8),
        rmsprop_with_momentum(COSINE[1]),
    ),
    "adam": (optax.adam(0.01), adaptax.adam(0.01)),
    "adam with a schedule": (optax.adam(COSINE[0]), adaptax.adam(COSINE[1])),
    "adamw": (
        optax.adamw(0.01, weight_decay=0.1),
        adaptax.adamw(0.01, weight_decay=0.1),
    ),
    "adamw with a scheduled decay": (
        optax.adamw(0.01, weight_decay=lambda step: jnp.where(step < 12, 0.5, 0.1)),
        adaptax.adamw(0.01, weight_decay=lambda step: jnp.where(step < 12, 0.5, 0.1)),
    ),
    "adamax": (optax.adamax(0.01), adaptax.adamax(0.01)),
    "nadam": (optax.nadam(0.01), adaptax.nadam(0.01)),
    "nadamw": (
        optax.nadamw(0.01, weight_decay=0.1),
        adaptax.adamw(0.01, weight_decay=0.1, nesterov=True),
    ),
    "lion": (optax.lion(0.01), adaptax.lion(0.01)),
    "adabelief": (optax.adabelief(0.01), adaptax.adabelief(0.01)),
    "radam": (optax.radam(0.01, b2=0.9), adaptax.radam(0.01, b2=0.9)),
    "lamb": (optax.lamb(0.01, eps=1e-6), adaptax.lamb(0.01)),
    "a clipped chain": (
        clipped(optax.adamw(COSINE[0])),
        clipped(adaptax.adamw(COSINE[1])),
    ),
    "partitions": (
        partitioned(optax.adam(0.01), optax.sgd(COSINE[0], 0.9)),
        partitioned(
            adaptax.adam(0.01), adaptax.momentum(COSINE[1], 0.9, dampening=0.0)
        ),
    ),
    "a masked part": (
        optax.masked(optax.adam(0.01), {"w": True, "b": False}),
        optax.masked(adaptax.adam(0.01), {"w": True, "b": False}),
    ),
    "injected hyperparameters": (
        optax.inject_hyperparams(optax.adam)(learning_rate=0.01),
        adaptax.adam(0.01),
    ),
    "an injected schedule": (
        optax.inject_hyperparams(optax.adam)(learning_rate=COSINE[0]),
        adaptax.adam(COSINE[1]),
    ),
    "injected hyperparameters on both sides": (
        optax.inject_hyperparams(optax.adam)(learning_rate=0.01, b1=0.8),
        optax.inject_hyperparams(adaptax.adam)(learning_rate=0.01, b1=0.8),
    ),
    "a controller behind": (
        optax.adam(0.01),
        adaptax.adam([0.01, adaptax.reduce_on_plateau()]),
    ),
    "a wrapper of ours": (optax.adam(0.01), adaptax.monitor(adaptax.adam(0.01))),
}


def gradients(params, step):
    """Twice the distances from a target that moves."""

    def gradient(param, start):
        target = jnp.sin(step + start)
        return 2 * (param - target.astype(param.dtype))

    return jax.tree.map(gradient, params, PARAMS)


def train(tx, params, state, first, last):
    tx = optax.with_extra_args_support(tx)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def advance(params, state, step):
        grads = gradients(params, step)
        updates, state = tx.update(grads, state, params, value=1 / (1 + step))
        return optax.apply_updates(params, updates), state

    states = [(params, state)]
    for step in range(first, last):
        states.append(advance(*states[-1], jnp.asarray(step, jnp.float32)))
    return states


def both(theirs, ours, params):
    with jax.numpy_dtype_promotion("standard"):
        states = train(theirs, params, theirs.init(params), 0, 27)
    params, state = states[7]
    state = adaptax.from_optax(state, ours, params)
    return train(ours, params, state, 7, 27)[-1][0], states[-1][0]


def assert_close(actual, expected, rtol=1e-5, atol=3e-6):
    def close(a, e):
        assert a.dtype == e.dtype
        a, e = (np.asarray(x, np.complex128) for x in (a, e))
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)

    jax.tree.map(close, actual, expected)


@pytest.mark.parametrize("name", MOVES)
def test_steps_after_the_move_are_those_of_optax(name):
    assert_close(*both(*MOVES[name], PARAMS))


@pytest.mark.parametrize("name", ["averaged momentum", "adamw", "adabelief", "radam"])
def test_a_move_under_x64_is_as_exact_as_the_rate(name):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda w: w.astype(jnp.float64), PARAMS)
        assert_close(*both(*MOVES[name], params), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["averaged momentum", "adam", "adagrad"])
def test_half_precision_moves_into_averages_of_float32(name):
    theirs, ours = MOVES[name]
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), PARAMS)
    actual, expected = both(theirs, ours, params)
    assert_close(actual, expected, rtol=0.05, atol=0.05)
    state = adaptax.from_optax(theirs.init(params), ours, params)
    assert all(
        leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(state)
    )


@pytest.mark.parametrize("name", ["averaged momentum", "adam", "adagrad", "adabelief"])
def test_complex_parameters_move(name):
    params = jax.tree.map(lambda w: w.astype(jnp.complex64) * (1 + 0.5j), PARAMS)
    assert_close(*both(*MOVES[name], params))


def test_the_state_has_the_types_of_the_optimizer():
    for theirs, ours in MOVES.values():
        with jax.numpy_dtype_promotion("standard"):
            begun = theirs.init(PARAMS)
        state = adaptax.from_optax(begun, ours, PARAMS)
        jax.tree.map(
            lambda new, own: (
                (new.shape, new.dtype) == (own.shape, own.dtype)
                or pytest.fail(f"{new} {own}")
            ),
            state,
            ours.init(PARAMS),
        )


def test_the_rate_that_was_set_is_taken_over():
    theirs = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
    state = theirs.init(PARAMS)
    state.hyperparams["learning_rate"] = jnp.asarray(0.003)
    moved = adaptax.from_optax(state, adaptax.adam(0.01), PARAMS)
    np.testing.assert_allclose(adaptax.learning_rate(moved), 0.003)
    injected = optax.inject_hyperparams(adaptax.adam)(learning_rate=0.01)
    moved = adaptax.from_optax(state, injected, PARAMS)
    np.testing.assert_allclose(adaptax.learning_rate(moved), 0.003)
    scheduled = adaptax.from_optax(state, adaptax.adam(COSINE[1]), PARAMS)
    np.testing.assert_allclose(adaptax.learning_rate(scheduled), 0.1)


def test_a_schedule_reads_as_the_rate_of_the_most_recent_step():
    theirs, ours = MOVES["adam with a schedule"]
    state = theirs.init(PARAMS)
    for _ in range(7):
        with jax.numpy_dtype_promotion("standard"):
            _, state = theirs.update(PARAMS, state)
    moved = adaptax.from_optax(state, ours, PARAMS)
    np.testing.assert_allclose(adaptax.learning_rate(moved), COSINE[0](6), rtol=1e-6)


def test_leaves_that_are_not_trained_stay_out_and_jit_moves_alike():
    params = {**PARAMS, "frozen": None, "count": jnp.arange(3)}
    theirs, ours = MOVES["adam"]
    state = theirs.init(params)
    moved = adaptax.from_optax(state, ours, params)
    jitted = jax.jit(lambda state: adaptax.from_optax(state, ours, params))(state)
    assert jax.tree.structure(moved) == jax.tree.structure(ours.init(params))
    assert jax.tree.structure(moved) == jax.tree.structure(jitted)


def _names(state):
    if type(state) in (tuple, dict):
        parts = state.values() if isinstance(state, dict) else state
        return set().union(*map(_names, parts))
    return {type(state).__name__}


def test_every_method_that_says_what_it_takes_is_moved_here():
    with gathered() as offers:
        for entry in ENTRIES:
            if entry.family == "optimizer":
                for variant in ({}, *entry.variants):
                    entry.optimizer(**variant).init(PARAMS)
        adaptax.rmsprop(0.1, debias=True).init(PARAMS)
    said = {name for _, takes in offers for name in takes}
    with jax.numpy_dtype_promotion("standard"):
        moved = set().union(
            *(_names(theirs.init(PARAMS)) for theirs, _ in MOVES.values())
        )
    assert {"ScaleByAdamState", "TraceState"} <= said <= moved


@pytest.mark.parametrize(
    "entry",
    [
        one
        for one in ENTRIES
        if contract_of(one).optax_twin and one.family == "optimizer"
    ],
    ids=lambda entry: entry.name,
)
def test_twins_of_the_catalogue_move_or_are_refused_by_name(entry):
    theirs, ours = contract_of(entry).optax_twin(), entry.optimizer()
    try:
        state = adaptax.from_optax(theirs.init(PARAMS), ours, PARAMS)
    except ValueError as raised:
        error, state = str(raised), None
    if state is None:
        assert re.search("cannot take|found nothing", error)
    else:
        assert jax.tree.structure(state) == jax.tree.structure(ours.init(PARAMS))


def test_the_page_moves_a_state():
    page, names = Path(__file__).parents[1] / "docs" / "moving_in.md", {}
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(compile(code, str(page), "exec"), names)
    assert jax.tree.structure(names["opt_state"]) == jax.tree.structure(
        names["tx"].init(names["params"])
    )


def shapes(params):
    return jax.tree.map(lambda w: jnp.ones((4, *w.shape)), params)


def counted(count):
    adam, schedule = optax.adam(COSINE[0]).init(PARAMS)
    return adam, schedule._replace(count=jnp.asarray(count, jnp.int32))


REFUSED = {
    "a method without its like": (
        "cannot take ScaleByAdaDeltaState; tx takes ScaleByAdamState",
        optax.adadelta(0.1).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "the largest mean square": (
        "cannot take ScaleByAmsgradState; tx has no part",
        optax.amsgrad(0.1).init(PARAMS),
        adaptax.adam(0.1, amsgrad=True),
    ),
    "another method": (
        "cannot take ScaleByLionState; tx takes ScaleByAdamState",
        optax.lion(0.1).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "a method that keeps nothing": (
        "nothing in opt_state for the AdamState of tx",
        optax.sgd(0.1).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "debiased from biased": (
        "cannot take ScaleByRmsState; tx takes ScaleByRmsWithCountState",
        optax.rmsprop(0.1).init(PARAMS),
        adaptax.rmsprop(0.1, debias=True),
    ),
    "momentum before the division": (
        "cannot take ScaleByRmsState; tx has no part",
        optax.rmsprop(0.1, momentum=0.9).init(PARAMS),
        adaptax.rmsprop(0.1, momentum=0.9),
    ),
    "momentum before the rate": (
        "TraceState: it comes after the rate",
        optax.rmsprop(0.1, momentum=0.9).init(PARAMS),
        optax.chain(
            adaptax.scale_by_rmsprop(),
            adaptax.scale_by_momentum(0.9, dampening=0.0),
            adaptax.descend(0.1),
        ),
    ),
    "momentum after the rate": (
        "TraceState: it comes before the rate",
        optax.sgd(COSINE[0], 0.9).init(PARAMS),
        optax.chain(
            adaptax.descend(0.1), adaptax.scale_by_momentum(0.9, dampening=0.0)
        ),
    ),
    "a wrapper": (
        "cannot take ApplyIfFiniteState.*its inner state",
        optax.apply_if_finite(optax.adam(0.1), 3).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "accumulated gradients": (
        "cannot take MultiStepsState.*its inner state",
        optax.MultiSteps(optax.adam(0.1), 2).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "other shapes": (
        r"shape \(4, 2\) where the mean\['b'\] of tx has \(2,\)",
        optax.adam(0.1).init(shapes(PARAMS)),
        adaptax.adam(0.1),
    ),
    "another structure": (
        "ScaleByAdamState in opt_state does not belong to params",
        optax.adam(0.1).init({"w": jnp.ones(3)}),
        adaptax.adam(0.1),
    ),
    "a mask on one side": (
        "has shape None where the mean",
        optax.masked(optax.adam(0.1), {"w": True, "b": False}).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "counts that differ": (
        r"counts in opt_state differ: \[0, 5\]",
        counted(5),
        adaptax.adam(COSINE[1]),
    ),
    "labels on one side": (
        "cannot take ScaleByAdamState under label 'one'",
        partitioned(optax.adam(0.1), optax.sgd(0.1)).init(PARAMS),
        adaptax.adam(0.1),
    ),
    "packed leaves": (
        "does not belong to params|has shape",
        optax.adam(0.1).init(PARAMS),
        adaptax.packed(adaptax.adam(0.1)),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_by_name(name):
    message, state, optimizer = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        adaptax.from_optax(state, optimizer, PARAMS)
