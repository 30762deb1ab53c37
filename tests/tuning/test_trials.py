"""Trials of plain functions, against loops written by hand."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.tuning.trials.shuffling import batch_indices
from adaptax.tuning.trials.training import Shared

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)
DATA = {"x": X, "y": Y}
RATE = np.float32(0.1)


def init_params(key):
    return jax.random.normal(key, (3,))


def mean_error(w, batch):
    return jnp.mean((batch["x"] @ w - batch["y"]) ** 2)


def line(optimizer=adaptax.gradient_descent, **options):
    return adaptax.trial(init_params, mean_error, optimizer, DATA, **options)


def run_of(trial, num_steps):
    """Compile a run from its beginning."""

    def run(hparams, key):
        return trial.advance(hparams, trial.init(hparams, key), num_steps)

    return jax.jit(run)


def advanced(trial, num_steps):
    return run_of(trial, num_steps)(RATE, KEY)


# One step after the other.


def test_steps_and_then_more_steps_are_the_same_as_all_at_once():
    trial = line(adaptax.adam, batch_size=10)
    state, losses = advanced(trial, 12)
    middle, first = advanced(trial, 5)
    end, second = jax.jit(trial.advance, static_argnums=2)(RATE, middle, 7)
    np.testing.assert_allclose(losses, jnp.concatenate([first, second]), rtol=1e-6)
    np.testing.assert_allclose(state.params, end.params, rtol=1e-6)
    assert end.step == 12
    unmoved, none = trial.advance(RATE, end, 0)
    assert none.shape == (0,)
    np.testing.assert_array_equal(unmoved.params, end.params)


def test_types_of_the_state_do_not_change_by_a_step():
    trial = line(adaptax.adam, batch_size=10)
    start = jax.eval_shape(trial.init, RATE, KEY)
    after, losses = jax.eval_shape(lambda: trial.advance(RATE, start_of(trial), 3))
    assert after == start
    assert (losses.shape, losses.dtype) == ((3,), jnp.float32)


def start_of(trial):
    return trial.init(RATE, KEY)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_trial_equals_a_loop_in_optax(batch_size):
    trial = line(lambda rate: optax.sgd(rate, momentum=0.9), batch_size=batch_size)
    state = trial.init(RATE, KEY)
    params, optimizer = state.params, optax.sgd(0.1, momentum=0.9)
    opt_state, expected = optimizer.init(params), []
    for step in range(6):
        rows = np.arange(64)
        if batch_size is not None:
            key = jax.random.fold_in(state.key, 0)
            rows = batch_indices(jnp.int32(step), 64, batch_size, key)
        loss, grads = jax.value_and_grad(mean_error)(
            params, {"x": X[rows], "y": Y[rows]}
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        expected.append(loss)
    state, losses = trial.advance(RATE, state, 6)
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-4)
    np.testing.assert_allclose(state.params, params, rtol=1e-4)


def plateau(hparams):
    slower = adaptax.reduce_on_plateau(factor=0.5, patience=1)
    return optax.chain(
        optax.identity(), slower, optax.scale(-1.0), optax.scale(3 * hparams)
    )


OPTIMIZERS = {
    "value: reduce_on_plateau": plateau,
    "value: optax.polyak_sgd": lambda hparams: optax.polyak_sgd(10 * hparams),
    "grad_fn: cdat": lambda hparams: adaptax.gradient_descent(
        adaptax.cdat(sigma=10 * hparams)
    ),
    "value_fn: line_search": lambda hparams: adaptax.gradient_descent(
        adaptax.line_search(initial=hparams)
    ),
    "value_fn: optax.lbfgs": lambda hparams: optax.lbfgs(memory_size=2),
    "none: optax.sgd": optax.sgd,
    "none: adaptax.adam": adaptax.adam,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_receives_the_arguments_it_needs(name):
    def loss_and_gradient(params):
        loss, grad = jax.value_and_grad(mean_error)(params, DATA)
        more = {
            "value": {"value": loss},
            "grad_fn": {"grad_fn": lambda w: jax.grad(mean_error)(w, DATA)},
            "value_fn": {
                "value": loss,
                "grad": grad,
                "value_fn": lambda w: mean_error(w, DATA),
            },
            "none": {},
        }
        return loss, grad, more[name.partition(":")[0]]

    with jax.numpy_dtype_promotion("standard"):
        make = OPTIMIZERS[name]
        state, losses = advanced(line(make), 8)
        params, optimizer = start_of(line(make)).params, make(RATE)

        @jax.jit
        def step(params, opt_state):
            loss, grads, arguments = loss_and_gradient(params)
            updates, opt_state = optimizer.update(grads, opt_state, params, **arguments)
            return optax.apply_updates(params, updates), opt_state, loss

        opt_state, expected = optimizer.init(params), []
        for _ in range(8):
            params, opt_state, loss = step(params, opt_state)
            expected.append(loss)
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(state.params, params, atol=1e-3)
    assert losses[-1] < 0.6 * losses[0]


# Batches.


def subset_trial(batches):
    """Make a trial whose loss tells which of 12 examples a batch has, as bits."""
    return adaptax.trial(
        lambda key: jnp.zeros(()),
        lambda w, batch: jnp.sum(batch) + w,
        lambda hparams: adaptax.gradient_descent(0.0),
        2.0 ** np.arange(12, dtype=np.float32),
        4,
        batches=batches,
    )


def batches_drawn(batches, keys):
    """Return the examples of 6 steps as sets of bits, (keys, steps)."""
    trial = subset_trial(batches)

    def run(key):
        return trial.advance(None, trial.init(None, key), 6)[1]

    return np.asarray(jax.jit(jax.vmap(run))(keys)).astype(int)


def test_separate_batches_follow_from_the_key_and_differ_between_keys():
    keys = jax.random.split(KEY, 4)[np.array([0, 1, 0, 2])]
    drawn = batches_drawn("separate", keys)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert len({tuple(row) for row in drawn.tolist()}) == 3
    # In each epoch of 3 steps every one of the 12 examples is drawn once.
    assert (drawn.reshape(4, 2, 3).sum(axis=2) == 2**12 - 1).all()


def test_shared_batches_are_the_same_for_all_keys():
    drawn = batches_drawn("shared", jax.random.split(KEY, 3))
    np.testing.assert_array_equal(drawn, np.broadcast_to(drawn[0], drawn.shape))
    assert (drawn.reshape(3, 2, 3).sum(axis=2) == 2**12 - 1).all()
    assert (drawn[0, :3] != drawn[0, 3:]).any()


def test_shared_batches_are_those_of_the_common_step_not_of_a_members_own():
    trial = subset_trial("shared")
    start = trial.init(None, KEY)
    _, whole = trial.advance(None, start, 6)
    _, rest = trial.advance(None, start, 4, Shared(trial.data, jnp.int32(2)))
    np.testing.assert_array_equal(rest, whole[2:])


@pytest.mark.parametrize(("batches", "copies"), [("shared", 0), ("separate", 1)])
def test_only_separate_batches_are_gathered_for_each_member(batches, copies):
    trial = line(batch_size=8, batches=batches)
    states = jax.vmap(lambda key: trial.init(RATE, key))(jax.random.split(KEY, 7))

    def advance(states):
        shared = Shared(trial.data, jnp.int32(0))
        return jax.vmap(lambda state: trial.advance(RATE, state, 1, shared))(states)

    program = str(jax.make_jaxpr(advance)(states))
    assert program.count(":f32[7,8,3] = gather") == copies
    assert program.count(":f32[8,3] = gather") == 1 - copies


def test_the_data_that_are_shared_are_the_ones_that_are_used():
    trial = line(batch_size=None, eval_data=DATA)
    assert trial.evaluate is not None
    other = {"x": X, "y": 2 * Y}
    shared = Shared((other, other), jnp.int32(0))
    start = trial.init(RATE, KEY, shared)
    _, losses = trial.advance(RATE, start, 1, shared)
    np.testing.assert_allclose(losses[0], mean_error(start.params, other), rtol=1e-6)
    score = trial.evaluate(RATE, start, shared)
    np.testing.assert_allclose(score, mean_error(start.params, other), rtol=1e-6)


# What the loss hands on.


@pytest.mark.parametrize(
    ("has_state", "has_key", "has_aux"),
    list(itertools.product([False, True], repeat=3)),
)
def test_state_key_and_auxiliary_outputs_each_and_together(has_state, has_key, has_aux):
    def begin(key):
        params = init_params(key)
        return (params, {"seen": jnp.zeros((), jnp.int32)}) if has_state else params

    def loss(params, *arguments):
        rest = list(arguments)
        model_state = rest.pop(0) if has_state else None
        batch = rest.pop(0)
        value = mean_error(params, batch)
        if has_key:
            value = value + jax.random.uniform(rest.pop(0))
        assert not rest
        aux = {"rows": len(batch["x"]), "first": params[0].astype(jnp.float16)}
        if has_state:
            model_state = {"seen": model_state["seen"] + batch["x"].shape[0]}
            return value, ((model_state, aux) if has_aux else model_state)
        return (value, aux) if has_aux else value

    trial = adaptax.trial(
        begin,
        loss,
        lambda hparams: adaptax.gradient_descent(0.0 * hparams),
        DATA,
        16,
        has_state=has_state,
        has_key=has_key,
        has_aux=has_aux,
    )
    start = trial.init(RATE, KEY)
    run = run_of(trial, 8)
    state, losses = run(RATE, KEY)
    assert jax.tree.structure(start) == jax.tree.structure(state)
    if has_state:
        assert (start.model_state, state.model_state) == ({"seen": 0}, {"seen": 128})
    else:
        assert state.model_state == ()
    if has_aux:
        assert start.aux == {"rows": 0, "first": 0}
        assert state.aux["rows"] == 16
        np.testing.assert_allclose(state.aux["first"], state.params[0], rtol=1e-3)
        assert {leaf.dtype for leaf in state.aux.values()} == {jnp.dtype("f4")}
    else:
        assert state.aux == ()
    # The rate is 0: without noise the mean loss of an epoch is that of all examples.
    noise = losses.reshape(2, 4).mean(axis=1) - mean_error(start.params, DATA)
    if has_key:
        assert (noise > 0.05).all()
        assert (noise < 0.95).all()
        assert abs(noise[0] - noise[1]) > 1e-4
        np.testing.assert_array_equal(losses, run(RATE, KEY)[1])
        others = run(RATE, jax.random.key(1))[1]
        assert not set(losses.tolist()) & set(others.tolist())
    else:
        np.testing.assert_allclose(noise, 0, atol=1e-5)


# Evaluation.


def test_evaluation_is_given_the_parameters_that_eval_params_finds():
    def optimizer(hparams):
        return adaptax.iterate_average(adaptax.gradient_descent(hparams), decay=0.9)

    def evaluate(w, held_out):
        assert held_out == ()
        return jnp.sum(w**2)

    trial = line(optimizer, evaluate=evaluate, eval_data=())
    state, _ = advanced(trial, 5)
    assert trial.evaluate is not None
    found = trial.evaluate(RATE, state)
    average = adaptax.eval_params(state.opt_state, state.params)
    np.testing.assert_allclose(found, jnp.sum(average**2), rtol=1e-6)
    assert abs(found - jnp.sum(state.params**2)) > 0.1


def test_without_a_function_the_score_is_the_loss_of_the_held_out_data():
    held_out = {"x": X[:5], "y": Y[:5]}
    trial = line(batch_size=8, eval_data=held_out)
    state, _ = advanced(trial, 3)
    assert trial.evaluate is not None
    score = trial.evaluate(RATE, state)
    np.testing.assert_allclose(score, mean_error(state.params, held_out), rtol=1e-6)
    assert line().evaluate is None


def test_evaluation_is_given_the_models_state_and_gives_metrics():
    trial = adaptax.trial(
        lambda key: (jnp.ones(3), jnp.zeros(())),
        lambda w, seen, batch: (mean_error(w, batch), seen + 1),
        adaptax.gradient_descent,
        DATA,
        evaluate=lambda w, seen, weight: (weight * seen, {"sum": w.sum()}),
        eval_data=np.float32(10),
        has_state=True,
    )
    state, _ = advanced(trial, 4)
    assert trial.evaluate is not None
    score, metrics = trial.evaluate(RATE, state)
    assert score == 40
    np.testing.assert_allclose(metrics["sum"], state.params.sum())


# What is refused.

REFUSED = {
    "no function": (lambda: line(optimizer=0.1), TypeError, "optimizer must be a func"),
    "loss": (
        lambda: adaptax.trial(init_params, None, optax.sgd, DATA),
        TypeError,
        "loss must be a function, got None",
    ),
    "parameters": (
        lambda: adaptax.trial(jnp.ones(3), mean_error, optax.sgd, DATA),
        TypeError,
        "init_params must be a function",
    ),
    "evaluate": (
        lambda: line(evaluate=1, eval_data=DATA),
        TypeError,
        "evaluate must be a function, got 1",
    ),
    "no eval_data": (
        lambda: line(evaluate=mean_error),
        ValueError,
        "evaluate needs eval_data",
    ),
    "random score": (
        lambda: line(eval_data=DATA, has_key=True),
        ValueError,
        "a random loss cannot be the score",
    ),
    "batches": (lambda: line(batches="mine"), ValueError, "batches must be one of"),
    "batch 0": (lambda: line(batch_size=0), ValueError, "batch_size must be >= 1"),
    "batch 1.5": (lambda: line(batch_size=1.5), TypeError, "batch_size must be an int"),
    "batch 65": (lambda: line(batch_size=65), ValueError, "got 65 > 64"),
    "lengths": (
        lambda: adaptax.trial(init_params, mean_error, optax.sgd, {"x": X, "y": Y[1:]}),
        ValueError,
        r"the same number of examples, got 64 in data\['x'\], 63 in data\['y'\]",
    ),
    "no data": (
        lambda: adaptax.trial(init_params, mean_error, optax.sgd, {}),
        ValueError,
        "data must have arrays with at least one example",
    ),
    "no examples": (
        lambda: adaptax.trial(init_params, mean_error, optax.sgd, X[:0]),
        ValueError,
        "data must have arrays with at least one example",
    ),
    "scalar data": (
        lambda: adaptax.trial(init_params, mean_error, optax.sgd, {"x": 1.0}),
        ValueError,
        r"data\['x'\] must have a leading axis of examples, got a scalar",
    ),
    "no transformation": (
        lambda: start_of(line(lambda hparams: hparams)),
        TypeError,
        "optimizer must be a function of the hyperparameters that returns an Optax",
    ),
    "vector loss": (
        lambda: start_of(
            adaptax.trial(init_params, lambda w, batch: w, optax.sgd, DATA)
        ),
        ValueError,
        r"loss must return a real scalar, got float32 of shape \(3,\)",
    ),
    "whole loss": (
        lambda: start_of(adaptax.trial(init_params, lambda w, b: 1, optax.sgd, DATA)),
        ValueError,
        "loss must return a real scalar, got int32",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_argument_is_refused_in_words(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Models with more than parameters.


def test_a_module_of_equinox_is_trained_as_its_arrays_are_by_hand():
    eqx = pytest.importorskip("equinox")

    class Network(eqx.Module):
        weight: jax.Array
        order: jax.Array
        act: Any
        repeats: int
        slope: float
        name: str

        def __call__(self, x):
            for _ in range(self.repeats):
                x = self.slope * self.act(x[self.order] @ self.weight)
            return x

    def make(key):
        weight = jax.random.normal(key, (3, 3))
        return Network(weight, jnp.array([2, 0, 1]), jnp.tanh, 2, 0.5, "network")

    def loss(network, batch):
        return jnp.mean((jax.vmap(network)(batch["x"])[:, 0] - batch["y"]) ** 2)

    trial = adaptax.trial(make, loss, adaptax.adam, DATA, eval_data=DATA)
    state, losses = advanced(trial, 3)
    params, rest = eqx.partition(make(jax.random.fold_in(KEY, 0)), eqx.is_inexact_array)
    optimizer, expected = adaptax.adam(RATE), []
    optimizer_state = optimizer.init(params)

    @jax.jit
    def step(params, optimizer_state):
        value, grads = jax.value_and_grad(
            lambda params: loss(eqx.combine(params, rest), DATA)
        )(params)
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state, value

    for _ in range(3):
        params, optimizer_state, value = step(params, optimizer_state)
        expected.append(value)
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-5)
    np.testing.assert_allclose(state.params.weight, params.weight, rtol=1e-5)
    np.testing.assert_array_equal(state.params.order, [2, 0, 1])
    assert (state.params.act, state.params.slope) == (None, None)
    assert trial.evaluate(RATE, state) < losses[0]


def test_whole_numbers_beside_the_parameters_are_as_they_were():
    trial = adaptax.trial(
        lambda key: {"w": jnp.ones(3), "scale": 1.0, "power": 2},
        lambda p, batch: (
            p["scale"] * jnp.mean(batch["x"] @ p["w"]) ** len("ab"[: p["power"]])
        ),
        adaptax.gradient_descent,
        DATA,
    )
    state, _ = advanced(trial, 2)
    assert state.params["power"] is None
    assert state.params["scale"] != 1.0


def test_a_model_without_parameters_is_refused():
    trial = adaptax.trial(lambda key: 0, mean_error, adaptax.adam, DATA)
    with pytest.raises(ValueError, match="init_params must return some parameters"):
        trial.init(RATE, KEY)
