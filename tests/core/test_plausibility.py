"""One absurd loss decides nothing for ever, in every method that reads the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax import catalog
from adaptax._core import plausibility

STEPS = 500
CURVATURE = jnp.float32([1.5, 1.0, 0.5, 0.2])
START = jnp.float32([1.0, -2.0, 1.5, 3.0])
ABSURD = {"-1e6": -1e6, "-1e30": -1e30, "1e30": 1e30}
KINDS = ("none", "NaN", "5 % NaN", *ABSURD, *(f"{name} first" for name in ABSURD))


def disturbed():
    """Return by run and step the metric that replaces the loss; 0 keeps the loss."""
    replaced = {name: np.zeros(STEPS, np.float32) for name in KINDS}
    replaced["5 % NaN"][np.random.default_rng(1).random(STEPS) < 0.05] = np.nan
    replaced["NaN"][40] = np.nan
    for name, value in ABSURD.items():
        replaced[name][40] = replaced[f"{name} first"][0] = value
    return np.stack([replaced[name] for name in KINDS])


LISTENING = {entry.name: entry for entry in catalog.ENTRIES if "value" in entry.needs}


def final_losses(entry):
    """Train on noisy quadratics, all runs on the same ones; give their last losses."""
    optimizer = optax.with_extra_args_support(entry.optimizer())
    random = np.random.default_rng(0)
    noise = np.float32(0.1 * random.normal(size=(STEPS, 4)))

    def true_loss(w):
        return 1 + 0.5 * jnp.sum(CURVATURE * w**2)

    def step(carry, inputs):
        (w, state), (noise, replaced) = carry, inputs

        def value_fn(w):
            return true_loss(w) + noise @ w

        value, gradient = jax.value_and_grad(value_fn)(w)
        known = {
            "value": jnp.where(replaced == 0, value, replaced),
            "grad": gradient,
            "value_fn": value_fn,
        }
        wanted = entry.needs | ({"grad"} if "value_fn" in entry.needs else set())
        known = {name: known[name] for name in known if name in wanted}
        updates, state = optimizer.update(gradient, state, w, **known)
        w = optax.apply_updates(w, updates)
        return (w, state), true_loss(w)

    def run(replaced):
        _, losses = jax.lax.scan(
            step, (START, optimizer.init(START)), (noise, replaced)
        )
        return jnp.mean(losses[-50:])

    losses = jax.jit(jax.vmap(run))(disturbed())
    return dict(zip(KINDS, np.asarray(losses), strict=True))


@pytest.mark.parametrize("name", LISTENING)
def test_a_run_with_absurd_losses_ends_about_where_the_others_end(name):
    losses = final_losses(LISTENING[name])
    if name == "schedule_free_polyak":  # a first step whose length is the loss
        del losses["1e30 first"]
    excess = {kind: loss - 1 for kind, loss in losses.items()}
    first = 0.5 * float(jnp.sum(CURVATURE * START**2))
    for kind in losses:
        assert excess[kind] < 3 * excess["none"] + 0.03 * first, kind
    if LISTENING[name].family != "wrapper":
        passed_over = [losses[kind] for kind in ABSURD]
        np.testing.assert_allclose(passed_over, losses["NaN"], rtol=1e-4)


def verdicts(metrics):
    """List which metrics are plausible, and after which all starts anew."""
    usual, plausible, anew = plausibility.usual(), [], []
    for metric in metrics:
        verdict, usual = plausibility.judged(usual, jnp.float32(metric))
        plausible.append(bool(verdict.plausible))
        anew.append(bool(verdict.anew))
    return plausible, anew


def test_the_second_of_its_kind_is_believed():
    metrics = [2.0, 1.5, -1e6, 1.0, -9e5, -9e5]
    assert verdicts(metrics)[0] == [True, True, False, True, True, True]
    metrics = [2.0, 1.5, 1e30, 1e30, 1e30]
    assert verdicts(metrics)[0] == [True, True, False, True, True]


def test_losses_that_fall_or_fluctuate_are_never_absurd():
    falling = 10.0 ** np.arange(20, -20, -2.0)
    noisy = np.random.default_rng(0).normal(size=300)
    for metrics in (falling, -1 / falling[::-1], noisy, np.exp(3 * noisy), [0, 0, 1]):
        assert all(verdicts(metrics)[0]), metrics


def test_not_finite_metrics_are_none():
    plausible, anew = verdicts([np.nan, np.inf, 1.0, -np.inf, 2.0])
    assert plausible == [False, False, True, False, True]
    assert anew == [False, False, True, False, False]


@pytest.mark.parametrize("first", [-1e6, -1e30, 1e30])
def test_a_first_metric_that_was_absurd_is_forgotten_at_the_second(first):
    assert verdicts([first, 2.0, 1.0])[1] == [True, True, False]
    plateau = adaptax.reduce_on_plateau(0.5, patience=1)
    state = plateau.init(None)
    for metric in (first, 3.0, 2.9, 2.8, 2.7, 2.6):
        state = plateau.observe(state, metric)
    assert adaptax.learning_rate(state) == 1.0


def test_one_low_metric_does_not_end_training():
    stop = adaptax.early_stop(patience=3, max_lost=0)
    state = stop.init(None)
    for metric in (3.0, 2.9, -1e6, *np.linspace(2.8, 1.0, 9)):
        state = stop.observe(state, metric)
    assert not adaptax.converged(state)
    assert state.skipped == 1


def test_the_scale_of_reject_increase_comes_back_after_losses_that_are_lost():
    optimizer = adaptax.reject_increase(adaptax.gradient_descent(0.1))
    update, w = jax.jit(optimizer.update), jnp.float32(1.0)
    state, scales = optimizer.init(w), []
    for step in range(200):
        value = jnp.where(step % 20 == 19, jnp.nan, w**2 / 2)
        updates, state = update(w, state, w, value=value)
        w, scales = w + updates, [*scales, float(state.learning_rate)]
    assert state.rejected == 10
    assert min(scales) == pytest.approx(0.5, rel=1e-5)
    assert scales[-2] == pytest.approx(1.0, rel=1e-5)
    assert abs(w) < 1e-5
