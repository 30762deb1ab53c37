"""Sweeps: train many hyperparameters and seeds in one program.

    score of a run = its mean loss over the last tenth of its steps, or its evaluation

Every configuration of the space is trained with every seed. The members are
independent: results depend on the plan only through rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax import spaces
from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.analysis.bands import Band, band
from adaptax.tuning.designs import Design
from adaptax.tuning.playing import play
from adaptax.tuning.results import ToolResult
from adaptax.tuning.rounds import Played, Round, once
from adaptax.tuning.running.acting import differing
from adaptax.tuning.running.planning import LOSS_BYTES, Strategy, require_room
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import as_seeds, stream
from adaptax.tuning.scores import Mode
from adaptax.tuning.storage.named_arrays import flatten_names, leaf_named
from adaptax.tuning.trials.trials import Trial, require_trial


@dataclass(frozen=True, repr=False)
class SweepResult(ToolResult):
    """The result of a sweep.

    `hparams` has a leading axis of members (configurations). `losses` is float32
    (members, seeds, steps), NaN after a run diverged. `scores` is (members, seeds),
    lower is better unless they were maximized, infinite if a run diverged (see
    `adaptax.tuning.scores`). `metrics` has arrays like `scores`.
    `about` describes the run: plan, seconds, member-steps, compilations.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("best",)
    KIND: ClassVar[str] = "adaptax sweep"
    AXES: ClassVar[dict[str, str]] = {
        "losses": "members seeds steps",
        "scores": "members seeds",
        "hparams/": "members",
        "metrics/": "members seeds",
    }
    ROWS: ClassVar[str] = "members seeds"
    PLOT: ClassVar[str] = "sweep"

    hparams: Any
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]
    about: dict[str, Any]

    @property
    def ranking(self) -> np.ndarray:
        """The members from best to worst, by mean score; ties by index."""
        return np.argsort(self.minimized(self.scores).mean(axis=1), kind="stable")

    @property
    def best(self) -> Any:
        """The hyperparameters of the best member, or `None` if every one diverged."""
        index = int(self.ranking[0])
        if not np.isfinite(self.scores[index]).all():
            return None
        return jax.tree.map(lambda leaf: leaf[index].item(), self.hparams)

    def curves(self, low: float = 0.25, high: float = 0.75) -> tuple[np.ndarray, ...]:
        """Return the median learning curves over the seeds, with two quantiles.

        Returns:
            low, median and high, each (members, steps); NaN where a seed has diverged.
        """
        for quantile, value in (("low", low), ("high", high)):
            checks.number(quantile, value, at_least=0, at_most=1)
        checks.at_most("low", low, "high", high)
        losses = np.where(np.isfinite(self.losses), self.losses, np.nan)
        return tuple(np.quantile(losses, (low, 0.5, high), axis=1))

    def good_region(
        self, name: str = "learning_rate", within: float = 0.05
    ) -> Band | None:
        """Return the region of a hyperparameter with good mean scores.

        Args:
            name: The path of a hyperparameter > 0. Of several members with the same
                value, the best counts.
            within: The largest difference from the best score, relative to its size.

        Returns:
            `None` if every member diverged.
        """
        checks.number("within", within, at_least=0)
        values = leaf_named(self.hparams, name)
        rates = np.unique(values)
        require(
            bool(rates[0] > 0),
            f"name must be of a hyperparameter > 0, but {name} has {rates[0]}.",
        )
        means = self.minimized(self.scores).mean(axis=1)
        best = [float(means[values == rate].min()) for rate in rates]
        return band(rates.tolist(), best, within)

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat dict for each member and seed, as for a data frame."""
        rows, seeds = super().to_records(), self.about["seeds"]
        last = self.losses[..., -1].ravel()
        return [
            {**row, "seed": seeds[row["seed"]], "last_loss": float(loss)}
            for row, loss in zip(rows, last, strict=True)
        ]

    def _table(self) -> dict[str, Any]:
        """Return the members, best first, with the spread over seeds."""
        values = flatten_names(self.hparams)
        columns = {name: value[self.ranking] for name, value in values.items()}
        columns["score"] = self.scores.mean(axis=1)[self.ranking]
        if self.scores.shape[1] > 1:
            with np.errstate(invalid="ignore"):
                columns["± over seeds"] = self.scores.std(axis=1, ddof=1)[self.ranking]
        for name, metric in self.metrics.items():
            columns[name] = metric.mean(axis=1)[self.ranking]
        return columns


def sweep(
    trial: Trial,
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    mode: Mode = "min",
    key: Any = 0,
    strategy: Strategy = "auto",
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> SweepResult:
    """Train every configuration of a space with every seed.

    Args:
        trial: The trial to train.
        space: A dict of axes from `adaptax.spaces`, of lists that are paired, and of
            constants; the hyperparameters of a member have its structure.
        num_steps: Steps of each member.
        seeds: The number of seeds, from 0, or a list of seeds. A seed determines the
            initial parameters of a trial and, unless they are shared, the batches.
        samples: The number of draws of the random axes, if there are any.
        mode: "max" for a score to maximize, such as an accuracy that the trial's
            `evaluate` returns. Static.
        key: A JAX key, or an integer seed for one. All randomness comes from it.
        strategy: How to run the members: "auto" measures the alternatives for a few
            steps and uses the fastest; "vmap" vectorizes over all members; "map" runs
            them one by one on every core; a number vectorizes over so many.
        mesh: The devices to distribute the members over. On several hosts, every
            process calls this with the same arguments and gets the same result.
        checkpoint: A folder for checkpoints. Called again with the same arguments after
            an interruption, the sweep resumes, and its result is the same to the last
            bit.
        progress: Whether to show steps done, the best score so far and the time left.

    Raises:
        ValueError: If an argument is out of range, a varied hyperparameter has no
            effect, or the folder has a checkpoint of other arguments.
        KeyError: If the trial reads a hyperparameter that is missing.
        OSError: If the folder cannot be written, or another process is using it.

    >>> import jax.numpy as jnp
    >>> import adaptax
    >>> from adaptax.spaces import log_grid
    >>> valley = adaptax.trial(
    ...     init_params=lambda key: jnp.ones(3),
    ...     loss=lambda w, curvature: 0.5 * jnp.sum(curvature * w**2),
    ...     optimizer=lambda h: adaptax.gradient_descent(h["learning_rate"]),
    ...     data=jnp.array([[1.0, 0.5, 0.1]]),
    ... )
    >>> found = adaptax.sweep(
    ...     valley,
    ...     {"learning_rate": log_grid(0.01, 10.0, 4)},
    ...     num_steps=50,
    ...     progress=False,
    ... )
    >>> found.losses.shape, round(found.best["learning_rate"], 3)
    ((4, 1, 50), 1.0)
    """
    require_trial(trial)
    design = sweep_design(
        space, num_steps=num_steps, seeds=seeds, samples=samples, mode=mode, key=key
    )
    options = RunOptions(key, strategy, mesh, checkpoint, progress)
    with design.begin(trial, options) as tool_run:
        if done := tool_run.finished(SweepResult):
            return done
        hparams = design.arguments["hparams"]
        tool_run.require_acting(hparams, differing(hparams))
        played = play(
            tool_run,
            design.rule,
            horizon=design.arguments["num_steps"],
            seeds=len(design.arguments["seeds"]),
        )
        return tool_run.finish(design.result(played, tool_run.about(**design.about)))


def sweep_design(
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    mode: Mode = "min",
    key: Any = 0,
) -> Design[SweepResult]:
    """Return what `sweep` does, besides training; see there."""
    num_steps = checks.length("num_steps", num_steps)
    found = configurations(space, samples, seeds, num_steps, key)

    def result(played: Played, about: dict[str, Any]) -> SweepResult:
        (outcome,) = played.history
        return SweepResult(
            found.hparams,
            outcome.losses.reshape(*found.shape, num_steps),
            outcome.scores.reshape(found.shape),
            {
                name: metric.reshape(found.shape)
                for name, metric in outcome.metrics.items()
            },
            about,
        )

    return Design(
        "sweep",
        found.each,
        once(Round(num_steps, None, found.each, found.run_seeds)),
        {"hparams": found.hparams, "seeds": found.seeds, "num_steps": num_steps},
        result,
        total=len(found.run_seeds) * num_steps,
        mode=mode,
        key=key,
        about={"seeds": found.seeds.tolist(), "num_steps": num_steps},
    )


class Configurations(NamedTuple):
    """The configurations of a space, and the runs of each with every seed.

    `hparams` has a leading axis of configurations. `each` has a leading axis of runs,
    and `run_seeds` the same length. The runs of a configuration are adjacent.
    """

    hparams: Any
    seeds: np.ndarray
    each: Any
    run_seeds: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """The number of configurations and of seeds."""
        runs, seeds = len(self.run_seeds), len(self.seeds)
        return runs // seeds, seeds


def configurations(
    space: dict[str, Any],
    samples: int | None,
    seeds: int | Sequence[int],
    num_steps: int,
    key: Any,
) -> Configurations:
    """Draw the configurations; refuse more runs than fit into the host's memory.

    Args:
        space: See `sweep`.
        samples: See `sweep`.
        seeds: See `sweep`.
        num_steps: Steps of the longest run.
        key: See `sweep`.
    """
    chosen = as_seeds(seeds)
    count = spaces.count_members(space, samples)
    each = LOSS_BYTES * num_steps + 8 * len(spaces.entries(space)) + 16
    require_room(
        f"{count} configurations of space (samples={samples}) with {len(chosen)} seeds "
        f"and num_steps={num_steps}",
        count * len(chosen) * each,
    )
    hparams = spaces.members(space, samples, stream(key, "space"))
    repeated = jax.tree.map(lambda leaf: np.repeat(leaf, len(chosen), axis=0), hparams)
    return Configurations(hparams, chosen, repeated, np.tile(chosen, count))
