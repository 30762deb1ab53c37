"""Every tool with a score, as a function of a trial, at its smallest.

The trial is w ← (1 − η) w from w = 1, with the loss w² and the accuracy w²/(1 + w²),
which is best at the lowest rate; the highest rate diverges.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptax
from adaptax import spaces
from adaptax.tuning import Round, play_rule

RATES = np.array([3.5, 0.5, 0.01, 0.1], np.float32)
GRID = {"learning_rate": spaces.grid(RATES)}
QUIET = {"strategy": "map", "progress": False}


def _advance(hparams, w, num_steps):
    def step(w, _):
        return w * (1 - hparams["learning_rate"]), w**2

    return jax.lax.scan(step, w, length=num_steps)


def accuracy(hparams, w):
    del hparams
    return w**2 / (1 + w**2), {"accuracy": w**2 / (1 + w**2)}


LOSSES = adaptax.Trial(lambda hparams, key: jnp.float32(1), _advance)
ACCURACIES = LOSSES._replace(evaluate=accuracy)


def better_half(history):
    """Continue the half with the best scores."""
    if not history:
        return Round(20, None, {"learning_rate": RATES}, np.arange(4))
    best = np.argsort(history[-1].scores)[: len(history[-1].scores) // 2]
    rates = history[-1].hparams["learning_rate"][best]
    return Round(20, best, {"learning_rate": rates}) if len(best) else None


def swept(trial, **options):
    return adaptax.sweep(trial, GRID, num_steps=20, **(QUIET | options))


def halved(trial, **options):
    return adaptax.successive_halving(
        trial, GRID, num_steps=40, eta=2, first_rung=20, **(QUIET | options)
    )


def stopped(trial, **options):
    return adaptax.median_stopping(
        trial, GRID, num_steps=40, interval=20, **(QUIET | options)
    )


def populated(trial, **options):
    return adaptax.population_based_training(
        trial, GRID, num_steps=40, interval=20, fraction=0.5, **(QUIET | options)
    )


def branched(trial, **options):
    return adaptax.branch(
        trial, GRID, stages=2, stage_steps=40, explore_steps=20, **(QUIET | options)
    )


def searched(trial, **options):
    pytest.importorskip("evosax")
    return adaptax.search_schedule(
        trial,
        num_steps=20,
        low=0.01,
        high=3.5,
        knots=2,
        population=4,
        generations=2,
        fresh_seeds=2,
        algorithm="SimpleES",
        **(QUIET | options),
    )


def played(trial, **options):
    return play_rule(trial, better_half, num_steps=60, **(QUIET | options))


TOOLS = [swept, halved, stopped, populated, branched, searched, played]
