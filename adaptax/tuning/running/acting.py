"""Acting: check, without a step, that a varied hyperparameter has an effect.

    a hyperparameter acts    the loss of some step, or the evaluation, depends on it
    within a run             through `advance`, not only through `init`

The trial is traced once, and dependences are found by `jax.vmap`: a value that depends
on a batched one is batched itself. They are followed through the state from step to
step, so that an effect may be late, as that of the decay of an average. A dependence
that is always multiplied by 0 counts too.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.core import jaxpr_as_fun

from adaptax._core.checks import require
from adaptax.tuning.running.inner_schedules import InnerSchedules, inner_schedules
from adaptax.tuning.running.loading import at_step
from adaptax.tuning.running.programs import types_of
from adaptax.tuning.running.tracing import traced
from adaptax.tuning.storage.named_arrays import flatten_names
from adaptax.tuning.trials.training import Shared
from adaptax.tuning.trials.trials import Trial


def differing(hparams: Any) -> list[str]:
    """Return the names of the hyperparameters that have several values."""
    named = flatten_names(hparams).items()
    return [name for name, values in named if len(np.unique(values)) > 1]


def require_acting(
    trial: Trial,
    hparams: Any,
    varied: Iterable[str],
    key: jax.Array,
    *,
    within_run: bool = False,
    data: Any = None,
) -> InnerSchedules:
    """Check that each of the varied hyperparameters has an effect.

    Args:
        trial: The trial.
        hparams: A pytree of arrays of any shape, each of which represents a scalar.
        varied: The names of the varied ones.
        key: A key of the type that `init` will receive.
        within_run: Whether they vary from step to step, and not only between members.
        data: The trial's data, with chunks in place of streams; by default its own.

    Returns:
        The schedules inside the trial that its steps follow.

    Raises:
        ValueError: If one has no effect.
        KeyError: If the trial reads one that is missing.
    """
    programs = _Traced(trial, hparams, key, trial.data if data is None else data)
    names = list(flatten_names(hparams))
    for name in varied:
        place = names.index(name)
        if programs.acts(place, within_run):
            continue
        listed = ", ".join(map(repr, names))
        only_init = within_run and programs.acts(place, within_run=False)
        require(
            not only_init,
            f"{name!r} is varied within a run, but only the trial's init depends on "
            "it, as with optax.inject_hyperparams, which keeps the first value: later "
            "ones would be reported and never applied. Pass the number to the "
            f"optimizer itself: optax.sgd(hparams[{name!r}]).",
        )
        raise ValueError(
            f"{name!r} is varied, but no loss and no evaluation depends on it. Use it "
            f"in the trial, or correct its name; there are {listed}."
        )
    return programs.followed_schedules()


class _Traced:
    """The traced programs of a trial, and the dependences in them."""

    def __init__(self, trial: Trial, hparams: Any, key: jax.Array, data: Any):
        scalars = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((), leaf.dtype), hparams
        )
        self._count = len(jax.tree.leaves(scalars))
        step, data = jnp.int32(0), jax.eval_shape(at_step, types_of(data), 0)

        def program(function, *arguments):
            def given(hparams, arguments, data):
                extra = {} if data is None else {"shared": Shared(data, step)}
                return function(hparams, *arguments, **extra)

            def make(hparams):
                make = jax.make_jaxpr(given, return_shape=True)
                return make(hparams, arguments, data)

            return traced(make, scalars, given, (arguments, data))

        def init(*arguments, **extra):
            state = trial.init(*arguments, **extra)
            _require_arrays(state)
            return state

        self._init, state = program(init, key)
        self._advance, (after, _) = program(
            lambda hparams, state, **extra: trial.advance(hparams, state, 1, **extra),
            state,
        )
        self._evaluate = trial.evaluate and program(trial.evaluate, state)[0]
        self._leaves = len(jax.tree.leaves(state))
        self._schedules = inner_schedules(state)
        # If the state's structure changes, the run itself raises an error.
        self._is_known = jax.tree.structure(after) == jax.tree.structure(state)

    def acts(self, place: int, within_run: bool) -> bool:
        """Return whether the hyperparameter at an index has an effect."""
        own = [index == place for index in range(self._count)]
        try:
            return not self._is_known or self._reaches(own, within_run)
        except (NotImplementedError, ValueError):
            return True  # a step that cannot be batched

    def followed_schedules(self) -> InnerSchedules:
        """Return the schedules whose counts affect a step."""
        found = self._schedules
        if not self._is_known or not any(found.is_count):
            return found.without_any()
        inputs = [False] * self._count + found.is_count
        try:
            *after, _ = _dependent(self._advance, inputs)
        except (NotImplementedError, ValueError):
            return found.without_any()
        others = zip(after, found.is_own, strict=True)
        followed = any(depends and not own for depends, own in others)
        return found if followed else found.without_any()

    def _reaches(self, own: list[bool], within_run: bool) -> bool:
        state = [False] * self._leaves
        if not within_run:
            state = _dependent(self._init, own)
        while True:
            *after, loss = _dependent(self._advance, own + state)
            if loss:
                return True
            found = [old or new for old, new in zip(state, after, strict=True)]
            if found == state:
                break
            state = found
        if self._evaluate is None:
            return False
        if within_run:
            own = [False] * self._count
        return any(_dependent(self._evaluate, own + state))


def _require_arrays(state: Any) -> None:
    """Check that the leaves of an initial state are arrays or numbers.

    Raises:
        TypeError: If one is not; the message names its path.
    """
    for path, leaf in jax.tree.leaves_with_path(state):
        if not (
            hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float | complex)
        ):
            raise TypeError(
                f"the trial's init returns {leaf!r} at {jax.tree_util.keystr(path)} of "
                "the state, which may only have arrays and numbers. Close over it "
                "instead."
            )


def _dependent(program: Any, inputs: list[bool]) -> list[bool]:
    """Return which outputs depend on any of the marked inputs."""
    batched = inputs + [False] * (len(program.in_avals) - len(inputs))
    found = [[False] * len(program.out_avals)]
    run = jaxpr_as_fun(program)

    @custom_vmap
    def watched(outputs):
        return outputs

    @watched.def_vmap
    def _(size, in_batched, outputs):
        del size
        found.append(in_batched[0])
        return outputs, in_batched[0]

    arguments = [
        jax.ShapeDtypeStruct((2, *aval.shape) if split else aval.shape, aval.dtype)
        for aval, split in zip(program.in_avals, batched, strict=True)
    ]
    if any(batched):
        axes = tuple(0 if split else None for split in batched)
        jax.eval_shape(
            jax.vmap(lambda *inputs: watched(run(*inputs)), in_axes=axes), *arguments
        )
    return list(found[-1])
