"""Trials of Flax NNX models: parameters, batch statistics and random streams.

A model is split into each `nnx.Param`, which the optimizer trains, and all other
variables, which are carried from step to step: batch statistics, and the keys and
counts of dropout. The rest of the model is fixed, and found once by tracing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adaptax._core import batch_statistics, tool_checks
from adaptax._core.checks import require
from adaptax.tuning.trials.arguments import Batches, require_arguments, require_callable
from adaptax.tuning.trials.trials import Trial, trial


def nnx_trial(
    make_model: Callable[..., Any],
    loss: Callable[..., Any],
    optimizer: Callable[[Any], Any],
    data: Any,
    batch_size: int | None = None,
    *,
    evaluate: Callable[..., Any] | None = None,
    eval_data: Any = None,
    batches: Batches = "separate",
    has_aux: bool = False,
) -> Trial:
    """Make a trial of a Flax NNX model; see `trial` for the other arguments.

    Args:
        make_model: `make_model(rngs)` returns the `nnx.Module`, for `nnx.Rngs` of the
            member's key. The model's random draws in training come from them too.
        loss: `loss(model, batch)` returns the mean loss of a batch, with the model in
            train mode; with `has_aux`, a pair of it and a dict of scalars. Changes of
            the model's variables are kept; nothing else may change.
        optimizer: See `trial`.
        data: See `trial`.
        batch_size: See `trial`.
        evaluate: `evaluate(model, eval_data)` returns the score, or `(score, metrics)`,
            with the model in eval mode. By default it is the loss.
        eval_data: See `trial`.
        batches: See `trial`.
        has_aux: Whether the loss returns auxiliary scalars. Static.

    Returns:
        A trial whose `params` and `model_state` are nested dicts of arrays.

    Raises:
        ImportError: If Flax is missing.
        TypeError: If `make_model` does not return an NNX module.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> import adaptax
    >>> x = jnp.linspace(-1, 1, 64)[:, None]
    >>> line = adaptax.nnx_trial(
    ...     make_model=lambda rngs: nnx.Linear(1, 1, rngs=rngs),
    ...     loss=lambda model, batch: jnp.mean((model(batch["x"]) - batch["y"]) ** 2),
    ...     optimizer=lambda hparams: adaptax.adam(hparams["learning_rate"]),
    ...     data={"x": x, "y": 3 * x},
    ...     batch_size=16,
    ... )
    >>> hparams = {"learning_rate": 0.1}
    >>> state = line.init(hparams, jax.random.key(0))
    >>> state, losses = line.advance(hparams, state, 100)
    >>> round(float(state.params["kernel"][0, 0]), 1)
    3.0
    """
    try:
        from flax import nnx
    except ImportError as error:
        message = 'nnx_trial needs flax: pip install "adaptax[examples]".'
        raise ImportError(message) from error

    require_callable("make_model", make_model)
    batch_size = require_arguments(
        loss, optimizer, data, batch_size, evaluate, eval_data, batches
    )
    has_aux = tool_checks.flag("has_aux", has_aux)

    for_training, for_judging, for_refreshing, layers = _fixed_parts(nnx, make_model)

    def init_params(key):
        _, *variables = _split(nnx, make_model(nnx.Rngs(key)))
        return jax.tree.map(lambda leaf: _typed(leaf, jnp.asarray(leaf)), variables)

    def measure(params, others, batch):
        refreshing = batch_statistics.present()
        fixed = for_training if refreshing is None else for_refreshing
        model = nnx.merge(fixed, params, others)
        found = loss(model, batch)
        value, aux = found if has_aux else (found, ())
        nnx.pop(model, nnx.Intermediate)
        _, _, changed = _split(nnx, model)
        require(
            jax.tree.structure(changed) == jax.tree.structure(others),
            "loss must not add variables to the model or remove them; only those of "
            "the type nnx.Intermediate are dropped after a step.",
        )
        changed = jax.tree.map(_typed, changed, others)
        if refreshing is not None:
            count = refreshing.batches
            changed = batch_statistics.averaged(others, changed, count, layers)
            refreshing.layers.extend(layers)
        others = changed
        return value, ((others, aux) if has_aux else others)

    def judge(params, others, held_out):
        model = nnx.merge(for_judging, params, others)
        return (evaluate or loss)(model, held_out)

    judged = evaluate is not None or eval_data is not None
    return trial(
        init_params,
        measure,
        optimizer,
        data,
        batch_size,
        evaluate=judge if judged else None,
        eval_data=eval_data,
        batches=batches,
        has_state=True,
        has_aux=has_aux,
    )._replace(evaluates_loss=judged and evaluate is None)


def _split(nnx: Any, model: Any) -> tuple[Any, Any, Any]:
    """Return a model's fixed part, its parameters and its other variables."""
    fixed, params, others = nnx.split(model, nnx.Param, ...)
    return fixed, nnx.to_pure_dict(params), nnx.to_pure_dict(others)


def _fixed_parts(nnx: Any, make_model: Callable[..., Any]) -> tuple[Any, ...]:
    """Return the fixed parts of a model: in train mode, in eval mode, and to refresh.

    The last of four is the paths of the layers whose statistics are refreshed.
    """
    model = nnx.eval_shape(lambda: make_model(nnx.Rngs(jax.random.key(0))))
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"make_model must return an nnx.Module, got {type(model).__name__}."
        )
    model.train()
    for_training, *_ = _split(nnx, model)
    model.eval()
    for_judging, *_ = _split(nnx, model)
    model.train()
    layers = batch_statistics.without_momentum(nnx, model)
    for_refreshing, *_ = _split(nnx, model)
    return for_training, for_judging, for_refreshing, layers.keys()


def _typed(leaf: Any, like: jax.Array) -> jax.Array:
    """Cast a leaf to the dtype of another, so that steps keep the state's types."""
    return jax.lax.convert_element_type(leaf, like.dtype)
