"""The trainer of a trial's jobs, one after another, in this process.

A job is trained by the program with which the tools train a single member, so that it
has the losses of the tool with `strategy="map"`.
"""

from typing import Any

import jax
import numpy as np

from adaptax._core import tool_checks
from adaptax._core.checks import require
from adaptax.tuning.jobs import Job
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.planning import first_state
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.programs import Programs
from adaptax.tuning.storage.named_arrays import from_arrays, group, prefixed
from adaptax.tuning.trials.scheduled_trials import following_tables
from adaptax.tuning.trials.trials import Trial, require_trial


class Trainer:
    """Trains jobs of a study with a trial: `train(job, state)`.

    A state is a dict of NumPy arrays, which can be pickled or saved by `numpy.savez`.

    >>> import jax.numpy as jnp
    >>> import adaptax
    >>> from adaptax.tuning import Trainer, studies
    >>> valley = adaptax.trial(
    ...     init_params=lambda key: jnp.ones(3),
    ...     loss=lambda w, curvature: 0.5 * jnp.sum(curvature * w**2),
    ...     optimizer=lambda h: adaptax.gradient_descent(h["learning_rate"]),
    ...     data=jnp.array([[1.0, 0.5, 0.1]]),
    ... )
    >>> space = {"learning_rate": adaptax.spaces.grid([0.01, 0.1, 1.0])}
    >>> study = studies.successive_halving(space, num_steps=9, eta=3)
    >>> train, states = Trainer(valley), {}
    >>> while jobs := study.ask():
    ...     for job in jobs:
    ...         losses, score, state = train(job, states.get(job.parent))
    ...         states[job.index] = state
    ...         study.tell(job, losses, score)
    >>> study.result().best
    {'learning_rate': 1.0}
    """

    def __init__(self, trial: Trial, *, key: Any = 0):
        """Compile nothing yet.

        Args:
            trial: The trial to train.
            key: See `sweep`. It should be that of the study.
        """
        require_trial(trial)
        self._trial, self._key = trial, tool_checks.key("key", key)
        self._programs: dict[str, Programs] = {}

    def __call__(
        self, job: Job, state: dict[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, np.ndarray]]:
        """Train a job.

        Args:
            job: The job.
            state: The state that was returned for its parent; `None` without one.

        Returns:
            The losses, the score as `Study.tell` takes it, and the state at the end.

        Raises:
            ValueError: If the state is missing, or there is no parent.
        """
        if job.parent is None:
            require(state is None, f"state must be None for job {job.index}, got one.")
        require(
            job.parent is None or state is not None,
            f"state must be that of job {job.parent}, which job {job.index} continues.",
        )
        programs, hparams = self._of(job)
        population = Population(
            programs, Plan(1, 1), hparams, np.array([job.seed], np.uint32)
        )
        if state is not None:
            population.restore(group(state, "states"), job.start)
            population.alive = np.array(state["alive"])
        losses = np.concatenate(list(population.run(job.steps)), axis=1)[0]
        score, metrics = population.judge() if job.evaluate else (None, {})
        if score is not None:
            score = score[0], {name: found[0] for name, found in metrics.items()}
        saved = {"alive": population.alive, **prefixed("states", population.saved())}
        return losses, score, saved

    def state_of(self, job: Job, state: dict[str, np.ndarray]) -> Any:
        """Return the trial's own state, such as a `TrialState`, of a job's state."""
        programs, hparams = self._of(job)
        like = first_state(programs, hparams, np.zeros(1, np.uint32))
        arrays = group(state, "states")
        return from_arrays(like, {name: found[0] for name, found in arrays.items()})[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is compiled, so that a trainer can be sent to a worker."""
        data = np.asarray(jax.random.key_data(self._key))
        kind = str(jax.random.key_impl(self._key))
        return {"trial": self._trial, "key": data, "kind": kind}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Undo `__getstate__`."""
        key = jax.random.wrap_key_data(kept["key"], impl=kept["kind"])
        self.__init__(kept["trial"], key=key)

    def _of(self, job: Job) -> tuple[Programs, Any]:
        """Return the programs for a job, and its hyperparameters as these take them."""
        hparams = jax.tree.map(_row, job.hparams)
        tables = (
            []
            if not isinstance(job.hparams, dict)
            else [name for name, value in job.hparams.items() if np.ndim(value)]
        )
        name = tables[0] if tables else ""
        if name:
            others = {key: hparams[key] for key in hparams if key != name}
            hparams = {"constants": others, "rates": hparams[name]}
        if name not in self._programs:
            trial = following_tables(self._trial, name) if name else self._trial
            self._programs[name] = Programs(trial, self._key)
        return self._programs[name], hparams


def _row(value: Any) -> np.ndarray:
    """Return a value as the array of a single member, with the dtype of spaces."""
    array = np.asarray(value)[None]
    dtypes = {"f": np.float32, "i": np.int32, "u": np.int32}
    return array.astype(dtypes.get(array.dtype.kind, array.dtype))
