"""Trials: a training run as pure functions, so that many can run at a time.

    init(hparams, key)                → state
    advance(hparams, state, n)        → state, losses (n,)
    evaluate(hparams, state)          → score, or (score, metrics)

A trial is to training what a `GradientTransformation` is to updates. The tools run it
for many hyperparameters and seeds in one program. `trial` makes one from plain
functions, `nnx_trial` from a Flax NNX model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from adaptax._core import tool_checks
from adaptax._core.checks import require
from adaptax.tuning.trials.arguments import (
    Batches,
    require_arguments,
    require_callable,
)
from adaptax.tuning.trials.streams import Stream
from adaptax.tuning.trials.training import Training


class Trial(NamedTuple):
    """One training run as pure functions.

    `init(hparams, key)` returns the state before the first step. `advance(hparams,
    state, num_steps)` trains for a static number of steps, and returns the state and
    the loss of each step, of shape (num_steps,); a steps and then b steps must be the
    same as a + b. `evaluate(hparams, state)` returns the score, a scalar to minimize
    (or to maximize, with a tool's mode="max"), or a pair of it and a dict of other
    scalars; without it, the score is the mean loss
    of the last tenth of the steps.

    `hparams` is any pytree of scalars, usually a dict. They are traced, so they cannot
    determine the shape of an array. `evaluates_loss` is whether `evaluate` returns a
    loss, which no tool may maximize.

    With `data`, a pytree of arrays, the three functions must take an additional keyword
    argument `shared`, a `Shared`. It should have a default, so that the trial can be
    run by hand. `data` may be, or contain, one `adaptax.stream(...)`: in `shared.data`
    the batch of the step has its place, and `num_steps` is 1.
    """

    init: Callable[..., Any]
    advance: Callable[..., tuple[Any, jax.Array]]
    evaluate: Callable[..., Any] | None = None
    data: Any = None
    evaluates_loss: bool = False


def trial(
    init_params: Callable[[jax.Array], Any],
    loss: Callable[..., Any],
    optimizer: Callable[[Any], optax.GradientTransformation],
    data: Any,
    batch_size: int | None = None,
    *,
    evaluate: Callable[..., Any] | None = None,
    eval_data: Any = None,
    batches: Batches = "separate",
    has_state: bool = False,
    has_key: bool = False,
    has_aux: bool = False,
) -> Trial:
    """Make a trial from plain functions.

    Args:
        init_params: `init_params(key)` returns the parameters; with `has_state`, a pair
            of them and the model's state. The parameters may be an Equinox module, or
            another tree that contains integers, functions and strings besides arrays:
            only real and complex arrays are trained, and leaves that are not arrays are
            `None` in the trial's state and the same in all runs.
        loss: `loss(params, batch)` returns the mean loss of a batch, a real scalar.
            With `has_state`, `loss(params, model_state, batch)` returns `(loss,
            model_state)`. With `has_key`, a key for the step is the last argument.
        optimizer: `optimizer(hparams)` returns the optimizer, any of adaptax or Optax.
            Its update receives `value`, `grad`, `value_fn` and `grad_fn`.
        data: A pytree of arrays with a common leading axis of examples; or
            `adaptax.stream(...)`, batches that are read while the members train.
        batch_size: Examples per step, drawn in shuffled epochs; `None` for all, and
            with a stream.
        evaluate: `evaluate(params, eval_data)`, or `evaluate(params, model_state,
            eval_data)`, returns the score, to be minimized unless a tool has
            `mode="max"`, or `(score, metrics)` with a dict of scalars. Its parameters
            are those of `eval_params`. If these are averages, the statistics of Flax's
            batch normalizations in the model state are those of up to 20 batches of the
            training data at the averages; see `adaptax.flax.refresh_statistics`.
        eval_data: A pytree of arrays, for `evaluate`. Without `evaluate`, the score is
            the loss on them as a single batch. With a stream, it is the mean over the
            batches, and so is each metric.
        batches: "separate": each run draws its batches by its own key, the same for the
            same seed; "shared": all runs have the same batches, which is much faster
            under `vmap`. A stream is always shared. Static, like the arguments below.
        has_state: Whether there is a model state.
        has_key: Whether the loss is random, as with dropout.
        has_aux: Whether the loss returns a dict of scalars as well: `(loss, aux)`, or
            `(loss, (model_state, aux))`. Those of the last step become metrics of the
            result.

    Raises:
        ValueError: If the arrays of the data differ in their number of examples, or the
            batch is larger.
        TypeError: If an argument has the wrong type.

    >>> import jax, jax.numpy as jnp
    >>> import adaptax
    >>> x = jnp.linspace(-1, 1, 64)
    >>> line = adaptax.trial(
    ...     init_params=lambda key: jnp.zeros(()),
    ...     loss=lambda w, batch: jnp.mean((w * batch["x"] - batch["y"]) ** 2),
    ...     optimizer=lambda hparams: adaptax.adam(hparams["learning_rate"]),
    ...     data={"x": x, "y": 3 * x},
    ...     batch_size=16,
    ... )
    >>> hparams = {"learning_rate": 0.1}
    >>> state, losses = line.advance(
    ...     hparams, line.init(hparams, jax.random.key(0)), 100
    ... )
    >>> losses.shape, bool(losses[-1] < 1e-2 * losses[0])
    ((100,), True)

    A Flax Linen model with batch statistics and dropout, with `has_state` and
    `has_key`; one without them needs only the parameters::

        def init_params(key):
            variables = model.init(key, examples, train=False)
            return variables["params"], variables["batch_stats"]


        def loss(params, batch_stats, batch, key):
            outputs, changed = model.apply(
                {"params": params, "batch_stats": batch_stats},
                batch["x"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return mean_loss(outputs, batch["y"]), changed["batch_stats"]
    """
    require_callable("init_params", init_params)
    batch_size = require_arguments(
        loss, optimizer, data, batch_size, evaluate, eval_data, batches
    )
    has_state = tool_checks.flag("has_state", has_state)
    has_key = tool_checks.flag("has_key", has_key)
    has_aux = tool_checks.flag("has_aux", has_aux)
    if evaluate is None and eval_data is not None:
        require(
            not has_key,
            "a random loss cannot be the score: pass evaluate, a function that returns "
            "the score without a key.",
        )
    if isinstance(eval_data, Stream):
        eval_data = eval_data.named("eval_data")
    run = Training(
        init_params,
        loss,
        optimizer,
        (data, eval_data),
        batch_size,
        evaluate,
        batches == "shared",
        has_state,
        has_key,
        has_aux,
    )
    judged = evaluate is not None or eval_data is not None
    return Trial(
        run.init,
        run.advance,
        run.judge if judged else None,
        run.data,
        evaluates_loss=judged and evaluate is None,
    )


def require_trial(trial: Any) -> None:
    """Check that an argument is a trial."""
    if not isinstance(trial, Trial):
        raise TypeError(
            f"trial must be a Trial, got {type(trial).__name__}. Make one with "
            "adaptax.trial(...) or adaptax.nnx_trial(...)."
        )
