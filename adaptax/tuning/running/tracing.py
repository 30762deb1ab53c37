"""Tracing trials: what JAX says about a trial's mistakes, in the trial's own terms."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adaptax.tuning.storage.named_arrays import flatten_names


def traced(
    function: Callable[[Any], Any],
    hparams: Any,
    replay: Callable[..., Any],
    given: tuple[Any, ...],
) -> Any:
    """Trace a function of a trial's hyperparameters, with explanations of its errors.

    Args:
        function: The function of the hyperparameters to trace.
        hparams: A pytree with a leaf for each hyperparameter.
        replay: `replay(hparams, *given)` does the same with scalars.
        given: The types of its other arguments.

    Raises:
        KeyError: If it reads a missing hyperparameter; the message lists the others.
        ValueError: If it needs the value of a traced one; the message names it.
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
    """Return a message that names the value a trial needs; see `traced`."""
    names = list(flatten_names(hparams))
    decisive = [
        name for at, name in enumerate(names) if _suffice({at}, replay, hparams, given)
    ]
    if decisive or _suffice(set(range(len(names))), replay, hparams, given):
        listed = ", ".join(map(repr, decisive or names))
        return (
            f"the trial needs the value of the hyperparameter {listed}, but "
            "hyperparameters are traced. One that determines the shape of an array or "
            "a Python branch must be static: build a trial for each of its values."
        )
    said = " ".join(str(error).split("\nSee https")[0].split())
    return (
        "the trial needs the value of a traced array that is not a hyperparameter. "
        f"JAX says: {said} The numbers in a trial's state are traced like its arrays: "
        "close over static ones, and branch on the others with jnp.where or "
        "jax.lax.cond."
    )


def _suffice(known: set[int], replay, hparams, given) -> bool:
    """Return whether the values of these leaves are all that is needed."""
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
    except Exception as error:  # caused by the substituted value
        return not _needs_value(error)
    return True


def _needs_value(error: Exception) -> bool:
    """Return whether it is JAX's error for using the value of a traced array."""
    kinds = jax.errors.JAXTypeError, jax.errors.JAXIndexError
    return isinstance(error, kinds) or (
        isinstance(error, TypeError | IndexError) and "concrete" in str(error)
    )


def _is_missing(error: KeyError, function: Callable[[Any], Any], hparams: Any) -> bool:
    """Return whether a hyperparameter is missing: with it, there is another error."""
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
    except Exception:  # caused by the substituted value
        return True
    return True
