"""The runs of a task: cosines to each horizon, and cool-downs of one trunk.

    cosine      the rate η rises over h/20 steps, and falls along a cosine to 0 at h
    trunk       η rises over T/40 steps, and stays
    cool-down   the trunk's state at h − n, and an order to go to 0 in n = c h steps

Rates and kinds of cool-downs are chosen by the validation losses of some seeds. The
test losses of other seeds are returned for all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

import adaptax
from adaptax.bench.shared.intervals import median
from adaptax.bench.shared.journal import rounded
from adaptax.bench.shared.tasks import Task
from adaptax.bench.tuning.methods import adamw, warmed_cosine
from adaptax.bench.tuning.runs import MEASURING_KEY
from adaptax.schedules.curves import Fall

HORIZONS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""The ends of the runs, in T, the length of the task's run."""

FRACTIONS = (0.1, 0.2, 0.4)
"""The cool-down's share c of the steps of a run."""

SHAPES: tuple[Fall, ...] = get_args(Fall)

CHOOSING, JUDGING = 0, 3000
"""The first seeds of the runs that choose, and of those that judge."""


class Effort(NamedTuple):
    """The rates, the numbers of seeds, and the share of each task's steps."""

    rates: tuple[float, ...]
    choosing: int
    judging: int
    share: float = 1.0


FULL = Effort(tuple(float(f"{10 ** (k / 4 - 4):.3g}") for k in range(19)), 5, 10)
SMOKE = Effort((1e-3, 1e-2), 2, 2, share=0.1)


class Losses(NamedTuple):
    """Validation and test losses at the ends of runs, infinite where they diverged."""

    validation: np.ndarray
    test: np.ndarray

    @classmethod
    def stacked(cls, losses: Sequence["Losses"]) -> "Losses":
        """Stack losses along a new first axis."""
        return cls(*map(np.stack, zip(*losses, strict=True)))


class _Programs:
    """A task's training with one optimizer, for many members at a time."""

    def __init__(self, task: Task, optimizer: Callable[[Any], Any]):
        problem = task.problem()

        def evaluate(params, examples):
            key = jax.random.key(MEASURING_KEY)
            test = task.measure(params, examples["test"], key)
            return task.measure(params, examples["validation"], key), {"test": test}

        trial = adaptax.trial(
            task.init,
            task.loss,
            optimizer,
            problem.train,
            problem.batch_size,
            evaluate=evaluate,
            eval_data={"validation": problem.validation, "test": problem.test},
            has_key=True,
        )
        assert trial.evaluate is not None

        def advance(hparams, states, num_steps):
            step = jax.vmap(lambda hparams, state: trial.advance(hparams, state, 1)[0])
            return jax.lax.fori_loop(
                0, num_steps, lambda _, states: step(hparams, states), states
            )

        self._init = jax.jit(jax.vmap(trial.init))
        self.advance = jax.jit(advance)
        self._evaluate = jax.jit(jax.vmap(trial.evaluate))

    def begun(
        self, rates: np.ndarray, seeds: Sequence[int], steps: int
    ) -> tuple[Any, Any]:
        """Return the hyperparameters and states of each rate with each seed."""
        each, seed = np.meshgrid(rates, seeds, indexing="ij")
        hparams = {
            "rate": each.ravel().astype(np.float32),
            "steps": np.full(each.size, steps, np.int32),
        }
        keys = jax.vmap(jax.random.key)(seed.ravel().astype(np.uint32))
        return hparams, self._init(hparams, keys)

    def losses(self, hparams: Any, states: Any, shape: tuple[int, ...]) -> Losses:
        """Return the members' losses, in the shape of an array of members."""
        validation, metrics = self._evaluate(hparams, states)
        return Losses(
            *(
                np.where(np.isfinite(losses), losses, np.inf).reshape(shape)
                for losses in (validation, metrics["test"])
            )
        )


def lengths(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the horizons in steps, and the steps of each fraction's cool-downs."""
    horizons = np.round(np.array(HORIZONS) * steps).astype(int)
    cooling = np.round(np.array(FRACTIONS)[:, None] * horizons).astype(int)
    return horizons, np.maximum(cooling, 1)


def share_of_steps(steps: int) -> np.ndarray:
    """Return the steps of a trunk and its cool-downs over those of the cosines.

    There is one number for each fraction.
    """
    horizons, cooling = lengths(steps)
    trunk = (horizons - cooling).max(axis=1)
    return (trunk + cooling.sum(axis=1)) / horizons.sum()


def cosines(task: Task, steps: int, rates: np.ndarray, seeds: Sequence[int]) -> Losses:
    """Train a cosine to each horizon, and return the losses (horizons, rates, seeds).

    Args:
        task: The task.
        steps: T.
        rates: The peaks to try, (horizons, rates).
        seeds: Each rate is tried with every seed.
    """
    programs = _Programs(
        task,
        lambda hparams: adamw(warmed_cosine(hparams["rate"], hparams["steps"])),
    )
    found = []
    for horizon, peaks in zip(lengths(steps)[0].tolist(), rates, strict=True):
        hparams, states = programs.begun(peaks, seeds, horizon)
        states = programs.advance(hparams, states, horizon)
        found.append(programs.losses(hparams, states, (len(peaks), len(seeds))))
    return Losses.stacked(found)


def cooled(task: Task, steps: int, rates: np.ndarray, seeds: Sequence[int]) -> Losses:
    """Train trunks, and cool them down to each horizon in every way.

    Args:
        task: The task.
        steps: T.
        rates: The rates of the trunks, (rates,).
        seeds: Each rate is tried with every seed.

    Returns:
        Losses (fractions, shapes, horizons, rates, seeds).
    """
    horizons, cooling = lengths(steps)
    warm = max(1, steps // 40)
    programs = _Programs(
        task,
        lambda hparams: adamw(
            adaptax.steerable(
                adaptax.warmup(adaptax.constant(hparams["rate"]), steps=warm)
            ),
        ),
    )
    hparams, trunk = programs.begun(rates, seeds, steps)
    every = jax.tree.map(lambda leaf: np.tile(leaf, len(SHAPES)), hparams)

    @jax.jit
    def ordered(states, num_steps):
        def order(shape):
            return jax.vmap(
                lambda state: state._replace(
                    opt_state=adaptax.cool_down(state.opt_state, num_steps, shape=shape)
                )
            )(states)

        return jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), *map(order, SHAPES)
        )

    starts, taken = horizons - cooling, 0
    ways = (len(FRACTIONS), len(SHAPES), len(HORIZONS), len(rates), len(seeds))
    losses = Losses(np.empty(ways), np.empty(ways))
    for place in np.argsort(starts, axis=None, kind="stable"):
        fraction, horizon = np.unravel_index(place, starts.shape)
        start, num_steps = starts[fraction, horizon], cooling[fraction, horizon]
        trunk = programs.advance(hparams, trunk, start - taken)
        taken = start
        branches = programs.advance(every, ordered(trunk, num_steps), num_steps)
        shape = (len(SHAPES), len(rates), len(seeds))
        ended = programs.losses(every, branches, shape)
        losses.validation[fraction, :, horizon] = ended.validation
        losses.test[fraction, :, horizon] = ended.test
    return losses


def measure(task: Task, effort: Effort) -> dict[str, Any]:
    """Choose the rates of a task, and return the test losses of the judging seeds.

    Returns:
        The record of a task: `cosine_rates` (horizons,) and `trunk_rates` (fractions,
        shapes) as chosen; `chosen` (fractions, shapes), the mean over the horizons of
        the logarithm of the loss over the cosine's, on the choosing seeds; and the test
        losses of `cosines` (horizons, seeds) and `cooled` (fractions, shapes, horizons,
        seeds).
    """
    steps = max(20, round(effort.share * task.steps))
    choosing = range(CHOOSING, CHOOSING + effort.choosing)
    judging = range(JUDGING, JUDGING + effort.judging)
    rates = np.array(effort.rates)

    tried = median(
        cosines(task, steps, np.tile(rates, (len(HORIZONS), 1)), choosing).validation
    )
    best = rates[tried.argmin(axis=1)]
    ways = median(cooled(task, steps, rates, choosing).validation)
    excess = np.log(ways / tried.min(axis=1)[:, None]).mean(axis=2)
    of_trunks = excess.argmin(axis=2)

    judged = cosines(task, steps, best[:, None], judging).test[:, 0]
    distinct, place = np.unique(of_trunks, return_inverse=True)
    tests = cooled(task, steps, rates[distinct], judging).test
    place = place.reshape(of_trunks.shape)[..., None, None, None]
    tests = np.take_along_axis(tests, place, axis=3)[..., 0, :]
    return {
        "task": task.name,
        "steps": steps,
        "cosine_rates": best.tolist(),
        "trunk_rates": rates[of_trunks].tolist(),
        "chosen": rounded(excess.min(axis=2)),
        "cosines": rounded(judged),
        "cooled": rounded(tests),
    }
