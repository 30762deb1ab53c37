"""The runs of a case and a recipe: choose a rate, judge it on fresh seeds, go on.

    round 1     every rate of the grid with the choosing seeds
    round 2     the rates beside the best one, if the effort is finer
    next        the chosen or default rate with fresh seeds: target and scoring runs
    last        without a horizon, the scoring runs go on from T to 4 T

The trial has one step for each look: it trains for the steps in between, and its loss
is the validation loss. The rounds are a rule, which `adaptax.tuning.play_rule` trains.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

import adaptax
from adaptax.bench.shared.journal import rounded
from adaptax.bench.tuning import protocol
from adaptax.bench.tuning.cases import LONG, Case, Effort
from adaptax.bench.tuning.methods import Recipe, finer
from adaptax.bench.tuning.protocol import LOOKS
from adaptax.tuning import Outcome, Round, RuleResult, play_rule
from adaptax.tuning.rounds import Rule

CHOOSING, TARGET, SCORING = 0, 1000, 2000
"""The first seeds of the runs that choose, set the target, and judge."""

MEASURING_KEY = 7
"""The seed of the noise in what is measured, the same for all runs."""

Record = dict[str, Any]


def curve_trial(case: Case, recipe: Recipe, every: int) -> adaptax.Trial:
    """Return a trial with a step for each look, whose loss is the validation loss.

    Args:
        case: The case, for its task and data.
        recipe: The recipe; its rate and horizon are hyperparameters.
        every: The training steps of a step of the trial.
    """
    task, problem = case.task, case.problem()
    held_out = {"validation": problem.validation, "test": problem.test}
    run = adaptax.trial(
        task.init,
        task.loss,
        lambda hparams: recipe.make(hparams["rate"], hparams["steps"]),
        problem.train,
        problem.batch_size,
        evaluate=lambda params, examples: 0.0,
        eval_data=held_out,
        has_key=True,
    )

    def measured(state, examples):
        params = recipe.evaluated(state.opt_state, state.params)
        return task.measure(params, examples, jax.random.key(MEASURING_KEY))

    def advance(hparams, state, num_steps, shared=None):
        examples = (run.data if shared is None else shared.data)[1]["validation"]

        def look(state, _):
            state, _ = run.advance(hparams, state, every, shared)
            return state, measured(state, examples)

        return jax.lax.scan(look, state, None, length=num_steps)

    def evaluate(hparams, state, shared=None):
        del hparams
        examples = (run.data if shared is None else shared.data)[1]
        test = measured(state, examples["test"])
        return test, {"test": test}

    return adaptax.Trial(run.init, advance, evaluate, run.data)


def measure(case: Case, recipe: Recipe, effort: Effort, every: int) -> list[Record]:
    """Run a recipe on a case, and return a record for each run.

    Args:
        case: The case.
        recipe: The recipe.
        effort: The numbers of rates and seeds.
        every: The training steps from one look to the next.
    """
    grows = not recipe.horizon and not case.long
    found = play_rule(
        curve_trial(case, recipe, every),
        rounds(recipe, effort, every * LOOKS, grows),
        num_steps=LOOKS * (LONG if grows else 1),
        strategy=case.width,
        progress=False,
    )
    return [
        {
            "case": case.name,
            "recipe": recipe.name,
            "rate": float(found.hparams["rate"][run]),
            "seed": seed,
            "losses": rounded(curve),
            "test": rounded(found.metrics["test"][run]),
        }
        for run, (seed, curve) in enumerate(_whole(found, recipe, effort))
    ]


def _whole(
    found: RuleResult, recipe: Recipe, effort: Effort
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the seed of each run, and its curve from the first step on."""
    first, before = _choosing_rounds(recipe, effort), {}
    for run, (index, parent) in enumerate(
        zip(found.rounds, found.parents, strict=True)
    ):
        if parent >= 0:
            seed, curve = before[parent]
            rest = found.losses[run, : (LONG - 1) * LOOKS]
            yield seed, np.concatenate([curve, rest])
            continue
        seeds = _choosing(effort) if index < first else _judging(recipe, effort)
        place = run - int(np.searchsorted(found.rounds, index))
        before[run] = seeds[place % len(seeds)], found.losses[run, :LOOKS]
        yield before[run]


def rounds(recipe: Recipe, effort: Effort, steps: int, grows: bool) -> Rule:
    """Return the rule; see the module's docstring.

    Args:
        recipe: The recipe.
        effort: The numbers of rates and seeds.
        steps: T.
        grows: Whether the scoring runs go on to 4 T.
    """
    swept, first = recipe.centre is not None, _choosing_rounds(recipe, effort)
    judging = _judging(recipe, effort)

    def new(rates: Sequence[float], seeds: Sequence[int]) -> Round:
        runs = [(rate, seed) for rate in rates for seed in seeds]
        return Round(
            LOOKS,
            None,
            _hparams([rate for rate, _ in runs], steps),
            np.array([seed for _, seed in runs], np.uint32),
        )

    def rule(history: Sequence[Outcome]) -> Round | None:
        done = len(history)
        if done < first:
            rates = finer(chosen(history)) if done else recipe.grid(effort.rates)
            return new(rates, _choosing(effort))
        if done == first:
            return new([chosen(history) if swept else recipe.rate], judging)
        if done == first + 1 and grows:
            last = history[-1]
            runs = np.arange(len(judging) - effort.scoring, len(judging))
            hparams = jax.tree.map(lambda leaf: leaf[runs], last.hparams)
            return Round((LONG - 1) * LOOKS, runs, hparams)
        return None

    return rule


def chosen(history: Sequence[Outcome]) -> float:
    """Return the best rate of the rounds so far."""
    rates = np.concatenate([outcome.hparams["rate"] for outcome in history])
    curves = np.concatenate([outcome.losses for outcome in history])
    return protocol.choose(rates, curves)


def _choosing_rounds(recipe: Recipe, effort: Effort) -> int:
    return 0 if recipe.centre is None else 1 + effort.finer


def _choosing(effort: Effort) -> list[int]:
    return _range(CHOOSING, effort.choosing)


def _judging(recipe: Recipe, effort: Effort) -> list[int]:
    scoring = _range(SCORING, effort.scoring)
    return [
        *(_range(TARGET, effort.target) if recipe.role == "tuned" else ()),
        *scoring,
    ]


def _range(first: int, count: int) -> list[int]:
    return list(range(first, first + count))


def _hparams(rates: Sequence[float], steps: int) -> dict[str, np.ndarray]:
    return {
        "rate": np.array(rates, np.float32),
        "steps": np.full(len(rates), steps, np.int32),
    }
