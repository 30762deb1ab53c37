"""Acting: whether what a tool varies changes anything, found without a step.

    a hyperparameter acts    a loss of some step depends on it, or the evaluation does
    within a run             it does so through `advance`, not only through `init`

The trial is traced once, and what depends on what is read from `jax.vmap`: a value that
depends on a batched one is batched itself. What a step makes of the state is followed
until nothing new depends on the hyperparameter, so that it may act late, as the decay
of an average does. A dependence that is always multiplied by 0 counts as one.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.core import jaxpr_as_fun

from adaptax._core.checks import require
from adaptax.tuning.running.inner_schedules import InnerSchedules, inner_schedules
from adaptax.tuning.running.programs import types_of
from adaptax.tuning.storage.named_arrays import flatten_names
from adaptax.tuning.trials.trials import Shared, Trial


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
) -> InnerSchedules:
    """Raise unless each of the hyperparameters that are varied acts.

    Args:
        trial: What is to be run.
        hparams: A pytree of arrays, whatever their shapes: each stands for a scalar.
        varied: The names of some of them.
        key: Of the kind that `init` will be given.
        within_run: Whether they are varied from step to step, and not only from member
            to member.

    Returns:
        The schedules within the trial that its steps follow.

    Raises:
        ValueError: If one does not act.
        KeyError: If the trial reads one that is not there.
    """
    programs = _Traced(trial, hparams, key)
    names = list(flatten_names(hparams))
    for name in varied:
        place = names.index(name)
        if programs.acts(place, within_run):
            continue
        listed = ", ".join(map(repr, names))
        baked = within_run and programs.acts(place, within_run=False)
        require(
            not baked,
            f"{name!r} is varied within a run, but only the trial's init depends on "
            "it, as with optax.inject_hyperparams, which keeps the first value: later "
            "ones would be reported and never applied. Give the number to the "
            f"optimizer itself: optax.sgd(hparams[{name!r}]).",
        )
        raise ValueError(
            f"{name!r} is varied, but no loss and no evaluation depends on it. Use it "
            f"in the trial, or correct its name; there are {listed}."
        )
    return programs.followed_schedules()


def traced(
    function: Callable[[Any], Any],
    hparams: Any,
    replay: Callable[..., Any],
    given: tuple[Any, ...],
) -> Any:
    """Trace a function of a trial's hyperparameters, and explain what it lacks.

    Args:
        function: What to trace, of the hyperparameters.
        hparams: A pytree with a leaf for each of them.
        replay: `replay(hparams, *given)` runs the same for scalars.
        given: Types of its other arguments.

    Raises:
        KeyError: If it reads one that is not there; the message has those that are.
        ValueError: If it needs the value of what is traced; the message says of what.
    """
    try:
        return function(hparams)
    except KeyError as error:
        if not _is_missing(error, function, hparams):
            raise
        listed = ", ".join(map(repr, flatten_names(hparams)))
        raise KeyError(
            f"the trial reads the hyperparameter {error.args[0]!r}, and there are only "
            f"{listed}: add it to the space or to hparams, or correct the name."
        ) from error
    except Exception as error:
        if not _needs_value(error):
            raise
        raise ValueError(_needed(error, replay, hparams, given)) from error


def _needed(error, replay, hparams, given) -> str:
    """Say of what a trial needs the value; see `traced` for the arguments."""
    names = list(flatten_names(hparams))
    decisive = [
        name for at, name in enumerate(names) if _suffice({at}, replay, hparams, given)
    ]
    if decisive or _suffice(set(range(len(names))), replay, hparams, given):
        listed = ", ".join(map(repr, decisive or names))
        return (
            f"the trial needs the value of the hyperparameter {listed}, and "
            "hyperparameters are traced: one that changes the shape of an array, or "
            "decides what Python does, is static. Build a trial for each value of it."
        )
    said = " ".join(str(error).split("\nSee https")[0].split())
    return (
        "the trial needs the value of an array that is traced, and it is none of the "
        f"hyperparameters. JAX says: {said} The numbers in a trial's state are traced "
        "like its arrays: close over one that is static, and choose by the others with "
        "jnp.where or jax.lax.cond."
    )


def _suffice(known: set[int], replay, hparams, given) -> bool:
    """Return whether no other value is needed, where those of some leaves are known."""
    leaves, structure = jax.tree.flatten(hparams)
    types = [jax.ShapeDtypeStruct((), leaf.dtype) for leaf in leaves]

    def run(leaves, given):
        filled = [
            np.ones((), leaf.dtype)[()] if at in known else leaf
            for at, leaf in enumerate(leaves)
        ]
        return replay(structure.unflatten(filled), *given)

    try:
        jax.eval_shape(run, types, given)
    except Exception as error:  # of the value that was put there
        return not _needs_value(error)
    return True


def _needs_value(error: Exception) -> bool:
    """Return whether it is JAX's error where the value of what is traced is needed."""
    kinds = jax.errors.JAXTypeError, jax.errors.JAXIndexError
    return isinstance(error, kinds) or (
        isinstance(error, TypeError | IndexError) and "concrete" in str(error)
    )


def _is_missing(error: KeyError, function: Callable[[Any], Any], hparams: Any) -> bool:
    """Return whether the key is a hyperparameter's: with it, the error is another."""
    missing = error.args[0]

    def filled(tree):
        if not isinstance(tree, dict):
            return tree
        some = next(iter(jax.tree.leaves(tree)))
        return {missing: some, **{key: filled(value) for key, value in tree.items()}}

    try:
        function(filled(hparams))
    except KeyError as another:
        return another.args[0] != missing
    except Exception:  # of the value that was put there
        return True
    return True


class _Traced:
    """The programs of a trial, and what depends on what in them."""

    def __init__(self, trial: Trial, hparams: Any, key: jax.Array):
        scalars = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((), leaf.dtype), hparams
        )
        self._count = len(jax.tree.leaves(scalars))
        data = types_of(trial.data)

        def program(function, *arguments):
            def given(hparams, arguments, data):
                extra = {} if data is None else {"shared": Shared(data, jnp.int32(0))}
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
        # The run itself explains a state that changes its structure.
        self._is_known = jax.tree.structure(after) == jax.tree.structure(state)

    def acts(self, place: int, within_run: bool) -> bool:
        """Return whether a hyperparameter acts, of those that `init` has read."""
        own = [index == place for index in range(self._count)]
        try:
            return not self._is_known or self._reaches(own, within_run)
        except (NotImplementedError, ValueError):
            return True  # a step that cannot be batched

    def followed_schedules(self) -> InnerSchedules:
        """Return the schedules whose counts decide what a step does."""
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
    """Raise unless the leaves of a first state are arrays or numbers.

    Raises:
        TypeError: If one is not; the message names its path.
    """
    for path, leaf in jax.tree.leaves_with_path(state):
        if not (
            hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float | complex)
        ):
            raise TypeError(
                f"the trial's init gives {leaf!r} at {jax.tree_util.keystr(path)} of "
                "the state, which has arrays and numbers only. Keep it out of the "
                "state: close over it."
            )


def _dependent(program: Any, inputs: list[bool]) -> list[bool]:
    """Return which outputs depend on some of the first inputs."""
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
