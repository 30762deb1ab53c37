"""Sweeps: train many hyperparameters and seeds in one program.

    score of a run = its mean loss over the last tenth of its steps, or its evaluation

Every configuration of the space is trained with every seed. The members are
independent: results depend on the plan only through rounding.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from adaptax import spaces
from adaptax._core import checks, tool_checks
from adaptax.tuning.designs import Design
from adaptax.tuning.extending import merged, parts_of, require_same
from adaptax.tuning.playing import play
from adaptax.tuning.rounds import Played
from adaptax.tuning.running.acting import differing
from adaptax.tuning.running.calls import written
from adaptax.tuning.running.planning import LOSS_BYTES, Strategy, require_room
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.seeds import as_seeds, stream
from adaptax.tuning.scores import Mode
from adaptax.tuning.storage import digests
from adaptax.tuning.sweep_result import SweepResult
from adaptax.tuning.trials.trials import Trial, require_trial


def sweep(
    trial: Trial,
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int] = 1,
    samples: int | None = None,
    extend: SweepResult | None = None,
    keep_states: bool = False,
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
        extend: A finished sweep, whose runs are not trained again. `space` and `seeds`
            must have all of its points and seeds, and may have more; a larger
            `num_steps` continues its runs from their last states, if it kept them. It
            must have the same trial, so a schedule keeps its own number of steps:
            longer runs stay at its end. The result has the bits of a sweep that had all
            of them from the start if members run one by one (`strategy="map"`), and
            otherwise up to the rounding of sums.
        keep_states: Whether the result has the last states of all runs, `states`, in
            the host's memory. They are needed to take more steps later.
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
    call = written(sweep, locals())
    require_trial(trial)
    design = _design(
        space,
        num_steps=num_steps,
        seeds=seeds,
        samples=samples,
        extend=extend,
        keep_states=keep_states,
        mode=mode,
        key=key,
    )
    options = RunOptions(key, strategy, mesh, checkpoint, progress, call)
    with design.begin(trial, options) as tool_run:
        if done := tool_run.finished(SweepResult):
            return done
        run = digests.of_run(tool_run.programs, tool_run.hparams, {})
        if extend is not None:
            require_same(extend, run, mode)
            if design.rule([]) is None:
                return tool_run.finish(design.result(Played([]), extend.about))
        hparams = design.arguments["hparams"]
        tool_run.require_acting(hparams, differing(hparams))
        played = play(
            tool_run,
            design.rule,
            horizon=design.arguments["num_steps"],
            seeds=1 if extend else len(design.arguments["seeds"]),
        )
        about = tool_run.about(**design.about, run=run)
        return tool_run.finish(design.result(played, about))


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
    return _design(
        space,
        num_steps=num_steps,
        seeds=seeds,
        samples=samples,
        extend=None,
        keep_states=False,
        mode=mode,
        key=key,
    )


def _design(
    space: dict[str, Any],
    *,
    num_steps: int,
    seeds: int | Sequence[int],
    samples: int | None,
    extend: SweepResult | None,
    keep_states: bool,
    mode: Mode,
    key: Any,
) -> Design[SweepResult]:
    """Return the design of a sweep, which may extend a finished one."""
    num_steps = checks.length("num_steps", num_steps)
    found = configurations(space, samples, seeds, num_steps, key)

    keep_states = tool_checks.flag("keep_states", keep_states)
    parts = parts_of(found.each, found.run_seeds, num_steps, extend, keep_states)

    def rule(history):
        return parts.rounds[len(history)] if len(history) < len(parts.rounds) else None

    def result(played: Played, about: dict[str, Any]) -> SweepResult:
        whole = merged(parts, found.shape, num_steps, played.history, played.states)
        return SweepResult(hparams=found.hparams, about=about, **whole)

    arguments = {
        "hparams": found.hparams,
        "seeds": found.seeds,
        "num_steps": num_steps,
        "keep_states": keep_states,
    }
    if extend is not None:
        arguments["extends"] = {"losses": extend.losses, "scores": extend.scores}
    return Design(
        "sweep",
        found.each,
        rule,
        arguments,
        result,
        total=sum(
            len(rows) * one.steps
            for rows, one in zip(parts.places, parts.rounds, strict=True)
        ),
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
