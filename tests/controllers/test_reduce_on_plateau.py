"""Reduce on plateau, where its peers go wrong and by what must not change it."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.smoothing import means_over

import adaptax


def reference(
    metrics,
    gradients=None,
    *,
    factor,
    patience,
    threshold,
    cooldown=0,
    min_scale=0.0,
    window=1,
    trend_errors=2.0,
    trend=None,
    threshold_mode=None,
    mode="min",
    convention="adaptax",
):
    """Cut the scale after more than `patience` evaluations that do not improve."""
    del gradients
    absolute = (threshold_mode or convention) in ("absolute", "keras")
    sign = 1 if mode == "min" else -1
    best, bad, cooling, scale, recent = None, 0, 0, 1.0, []
    for mean in means_over(window, metrics):
        if mean is not None:
            mean = sign * mean
            if best is None:
                improved = True
            elif absolute:
                improved = mean < best - threshold
            elif convention == "adaptax":
                improved = mean < best - threshold * abs(best)
            elif convention == "torch":
                improved = mean < best * (1 - sign * threshold)
            else:
                improved = mean < best * (1 - threshold)
            recent.append(mean)
            falling = trend and falls(recent, trend, threshold, trend_errors, absolute)
            if improved:
                best = mean
            waiting = cooling > 0
            cooling = max(cooling - 1, 0)
            if convention == "keras":
                waiting = cooling > 0
            bad = 0 if improved or falling or waiting else bad + 1
            fires = {
                "adaptax": bad > patience,
                "torch": bad > patience,
                "keras": bad >= max(patience, 1),
                "optax": bad == patience and not waiting,
            }
            if fires[convention]:
                scale = max(scale * factor, min_scale)
                bad, cooling, recent = 0, cooldown, []
        yield scale


def falls(evaluations, length, threshold, errors, absolute):
    """Return whether the line through the latest evaluations falls for certain."""
    latest = np.asarray(evaluations[-length:])
    if len(latest) < length:
        return False
    places = np.arange(length)
    slope, start = np.polyfit(places, latest, 1)
    squares = np.sum((latest - start - slope * places) ** 2) / (length - 2)
    error = np.sqrt(squares / np.sum((places - places.mean()) ** 2))
    size = 1 if absolute else abs(latest.mean())
    return -slope * (length - 1) > threshold * size and slope + errors * error < 0


CONTRACT = Contract(
    reference,
    static=frozenset({"trend"}),
    optax_forms=("optax.contrib.reduce_on_plateau",),
)

TRACES = json.loads(
    (Path(__file__).parents[1] / "reference" / "plateau_traces.json").read_text("utf-8")
)


STRUCTURE = {"mode", "threshold_mode", "convention", "trend", "monitor"}


def scales(metrics, **arguments):
    """Return the scale that each metric leads to, from one scan, which is shared."""
    structure = tuple((k, v) for k, v in arguments.items() if k in STRUCTURE)
    numbers = {k: v for k, v in arguments.items() if k not in STRUCTURE}
    return np.asarray(scan(np.float32(metrics), numbers, structure))


@functools.partial(jax.jit, static_argnames="structure")
def scan(metrics, numbers, structure):
    plateau = adaptax.reduce_on_plateau(**numbers, **dict(structure))

    def step(state, metric):
        update, state = plateau.update(jnp.ones(()), state, value=metric)
        return state, update

    return jax.lax.scan(step, plateau.init(()), metrics)[1]


METRICS = {
    "falling, then flat": [3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "flat and negative": [-2] * 12,
    "falling below zero": list(np.linspace(3, -3, 12)),
    "rising below zero": list(np.linspace(-3, -1, 12)),
    "of any kind": list(np.random.default_rng(5).normal(size=40)),
    "hardly falling": list(1 - 1e-3 * np.arange(12)),
}
ARGUMENTS = {
    "as PyTorch": {"factor": 0.5, "patience": 2, "threshold": 1e-4},
    "at once": {"factor": 0.5, "patience": 0, "threshold": 0.0},
    "with a cooldown": {"factor": 0.5, "patience": 1, "threshold": 1e-4, "cooldown": 2},
    "with a floor": {
        "factor": 0.3,
        "patience": 0,
        "threshold": 0.1,
        "min_scale": 0.05,
    },
    "over windows": {"factor": 0.5, "patience": 1, "threshold": 1e-4, "window": 3},
    "absolutely": {
        "factor": 0.5,
        "patience": 1,
        "threshold": 0.01,
        "threshold_mode": "absolute",
    },
    "for the largest": {"factor": 0.5, "patience": 1, "threshold": 1e-4, "mode": "max"},
}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_it_cuts_when_the_rule_says_so(arguments, metrics):
    expected = list(reference(map(float, np.float32(metrics)), **arguments))
    np.testing.assert_allclose(scales(metrics, **arguments), expected, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-8, 8), min_size=12, max_size=12),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_any_metrics_and_waits_give_the_scales_of_the_rule(
    metrics, patience, cooldown, window
):
    arguments = {
        "factor": 0.5,
        "patience": patience,
        "threshold": 0.125,
        "cooldown": cooldown,
        "window": window,
    }
    expected = list(reference(metrics, **arguments))
    np.testing.assert_allclose(scales(metrics, **arguments), expected, rtol=1e-6)


def test_a_constant_negative_loss_is_a_plateau():
    np.testing.assert_allclose(scales([-1.0] * 4, factor=0.5, patience=1)[-1], 0.5)


def test_a_negative_loss_that_gets_worse_does_not_count_as_better():
    rising = [-1.0, -0.99995, -0.9999, -0.99985]
    assert scales(rising, factor=0.5, patience=1, threshold=1e-3)[-1] == 0.5


def test_with_no_patience_it_does_not_cut_while_the_loss_improves():
    np.testing.assert_array_equal(scales([4, 3, 2, 1], factor=0.5, patience=0), 1)


def test_with_no_patience_it_cuts_at_the_first_that_does_not_improve():
    np.testing.assert_array_equal(
        scales([4, 3, 3, 2], factor=0.5, patience=0), [1, 1, 0.5, 0.5]
    )


def test_a_steady_improvement_too_small_for_bfloat16_is_seen():
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=1, threshold=1e-4)
    params = jnp.ones((2,), jnp.bfloat16)
    state = plateau.init(params)
    for step in range(12):
        update, state = plateau.update(params, state, value=1 - 1e-3 * step)
    np.testing.assert_array_equal(np.float32(update), 1)


@pytest.mark.parametrize("bad", [-np.inf, np.inf, np.nan])
def test_a_metric_that_is_not_finite_changes_nothing_but_a_counter(bad):
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=1, window=2)
    state = plateau.init(())
    for metric in (3.0, 2.0, 2.5):
        _, state = plateau.update(jnp.ones(()), state, value=metric)
    update, after = plateau.update(jnp.ones(()), state, value=bad)
    assert int(after.skipped) == int(state.skipped) + 1
    jax.tree.map(np.testing.assert_array_equal, after.followed, state.followed)
    assert update == state.followed["value"].learning_rate


def test_after_minus_infinity_it_goes_on_improving():
    np.testing.assert_array_equal(
        scales([4, -np.inf, 3, 2, 1, 0], factor=0.5, patience=0), 1
    )


def test_the_second_step_does_not_recompile():
    plateau, traces = adaptax.reduce_on_plateau(), []

    @jax.jit
    def step(state, value):
        traces.append("traced")
        return plateau.update(jnp.ones(()), state, value=value)[1]

    state = plateau.init(())
    for value in (1.0, 2.0, 3.0):
        state = step(state, value)
    assert len(traces) == 1


def test_integer_leaves_pass_through():
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0)
    updates = {"index": jnp.arange(3), "w": jnp.ones(3), "flag": jnp.ones((), bool)}
    state = plateau.init(updates)
    for _ in range(2):
        scaled, state = plateau.update(updates, state, value=1.0)
    np.testing.assert_array_equal(scaled["index"], updates["index"])
    np.testing.assert_array_equal(scaled["flag"], updates["flag"])
    np.testing.assert_array_equal(scaled["w"], 0.5)


def test_a_batch_of_controllers_is_one_vmap():
    factors = jnp.asarray([0.1, 0.5, 0.9])

    def last(factor):
        plateau = adaptax.reduce_on_plateau(factor=factor, patience=0)
        state = plateau.init(())
        for metric in (1.0, 1.0, 1.0):
            update, state = plateau.update(jnp.ones(()), state, value=metric)
        return update

    np.testing.assert_allclose(jax.vmap(last)(factors), factors**2, rtol=1e-6)


def test_it_is_the_plateau_of_pytorch():
    """PyTorch's own rule, the relative test for positive metrics."""
    factor, patience, threshold, cooldown = 0.5, 2, 1e-2, 1
    metrics = np.abs(np.random.default_rng(3).normal(size=60)) + 0.5
    best, bad, cooling, scale, expected = np.inf, 0, 0, 1.0, []
    for metric in np.float32(metrics):
        if metric < best * (1 - threshold):
            best, bad = metric, 0
        else:
            bad += 1
        if cooling > 0:
            cooling -= 1
            bad = 0
        if bad > patience:
            scale *= factor
            cooling, bad = cooldown, 0
        expected.append(scale)
    got = scales(
        metrics,
        factor=factor,
        patience=patience,
        threshold=threshold,
        cooldown=cooldown,
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_mean_over_a_window_is_what_counts():
    noisy = [1.0, 3.0, 0.5, 2.5, 0.0, 2.0]
    np.testing.assert_array_equal(scales(noisy, factor=0.5, patience=0, window=2), 1)
    assert scales(noisy, factor=0.5, patience=0, window=1)[-1] < 1


def test_it_scales_whatever_rate_stands_beside_it():
    optimizer = adaptax.gradient_descent(
        optax.chain(
            adaptax.linear(1.0, total_steps=4),
            adaptax.reduce_on_plateau(factor=0.5, patience=0),
        )
    )
    state, taken = optimizer.init(jnp.zeros(())), []
    for metric in (2.0, 1.0, 1.0, 1.0):
        update, state = optimizer.update(jnp.ones(()), state, value=metric)
        taken.append(-float(update))
        assert taken[-1] == pytest.approx(float(adaptax.learning_rate(state)))
    np.testing.assert_allclose(taken, [1.0, 0.75, 0.25, 0.0625], rtol=1e-6)


@pytest.mark.parametrize("library", ["torch", "keras", "optax"])
@pytest.mark.parametrize("about", TRACES["arguments"])
def test_a_convention_gives_the_trace_of_that_library(library, about):
    arguments = {"convention": library, **TRACES["arguments"][about]}
    for name, metrics in TRACES["metrics"].items():
        runs = TRACES[library]["scales"][f"{about}, {name}"]
        expected = np.repeat(*zip(*runs, strict=True))
        np.testing.assert_allclose(scales(metrics, **arguments), expected, rtol=1e-5)


def test_the_conventions_differ_where_their_libraries_do():
    flat, arguments = [3.0] * 5, {"factor": 0.5, "patience": 2}
    first = {
        convention: int(np.argmax(scales(flat, convention=convention, **arguments) < 1))
        for convention in ("adaptax", "torch", "keras", "optax")
    }
    assert first == {"adaptax": 3, "torch": 3, "keras": 2, "optax": 2}
    below = [-1.0] * 6
    assert scales(below, convention="optax", **arguments)[-1] == 1
    assert scales(below, **arguments)[-1] == 0.5


TREND = {"factor": 0.5, "patience": 2, "threshold": 1e-3, "trend": 8}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(
    "more", [{}, {"cooldown": 2}, {"mode": "max"}, {"threshold_mode": "absolute"}]
)
def test_it_cuts_when_the_rule_with_a_trend_says_so(more, metrics):
    noise = 0.05 * np.random.default_rng(2).normal(size=len(metrics))
    arguments, metrics = {**TREND, **more}, np.float32(np.asarray(metrics) + noise)
    expected = list(reference(map(float, metrics), **arguments))
    np.testing.assert_allclose(scales(metrics, **arguments), expected, rtol=1e-6)


def test_one_lucky_metric_does_not_hide_that_the_loss_still_falls():
    falling = np.linspace(2, 1, 40)
    falling[4] = 0.5
    arguments = {"factor": 0.5, "patience": 6}
    assert scales(falling, **arguments)[-1] < 1
    np.testing.assert_array_equal(scales(falling, **arguments, trend=6)[10:], 1)


def test_a_trend_does_not_take_noise_for_progress():
    noise = np.random.default_rng(8).normal(size=200)
    assert scales(noise, factor=0.5, patience=4, trend=8)[-1] < 0.01


def test_the_size_and_the_unit_of_the_metric_do_not_change_the_trend():
    metrics = np.linspace(2, 1, 30) + 0.1 * np.random.default_rng(4).normal(size=30)
    arguments = {"factor": 0.5, "patience": 1, "trend": 5}
    expected = scales(metrics, **arguments)
    for unit in (1e-30, 1e30):
        np.testing.assert_array_equal(scales(unit * metrics, **arguments), expected)


@pytest.mark.parametrize(
    ("error", "says", "arguments"),
    [
        (ValueError, "trend must be >= 3", {"trend": 2}),
        (TypeError, "trend must be an integer", {"trend": 4.5}),
        (ValueError, "trend_errors must", {"trend_errors": -1.0}),
        (ValueError, "convention must be one of", {"convention": "jax"}),
        (ValueError, "threshold_mode must be one of", {"threshold_mode": "both"}),
        (
            ValueError,
            "Keras has no relative",
            {"convention": "keras", "threshold_mode": "relative"},
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(error, says, arguments):
    with pytest.raises(error, match=says):
        adaptax.reduce_on_plateau(**arguments)
