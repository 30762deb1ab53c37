"""Words: the names of arguments in other libraries, and our names for them.

A call with an argument name of Optax, PyTorch or Keras is refused with an error that
names ours: `adam(mu_dtype=...)`: "adam got mu_dtype, which is accumulator_dtype here."
An accepted call is stored, so that a schedule or a controller can print it.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

from jax.core import Tracer

Factory = TypeVar("Factory", bound=Callable[..., Any])

WORDS: dict[str, tuple[str, ...]] = {
    # Rates.
    "lr": ("learning_rate", "initial", "peak"),
    "learning_rate": ("initial", "peak"),
    "initial_learning_rate": ("initial", "peak"),
    "init_value": ("initial", "peak", "value", "start"),
    "peak_value": ("peak",),
    "max_lr": ("peak", "high"),
    "base_lr": ("low",),
    "warmup_target": ("peak",),
    "max_learning_rate": ("max_rate",),
    "end_value": ("end",),
    "end_learning_rate": ("end",),
    "eta_min": ("end",),
    "alpha": ("end", "decay"),
    "min_lr": ("min_scale",),
    # Numbers of steps.
    "transition_steps": ("total_steps", "decay_steps", "every"),
    "decay_steps": ("total_steps", "every"),
    "total_iters": ("total_steps",),
    "T_max": ("total_steps",),
    "T_0": ("first_cycle",),
    "first_decay_steps": ("first_cycle",),
    "step_size": ("every",),
    "step_size_up": ("half_cycle",),
    "step_size_down": ("fall_steps",),
    "milestones": ("boundaries",),
    "every_k_schedule": ("every",),
    "epochs": ("total_steps",),
    "steps_per_epoch": ("total_steps",),
    "num_training_steps": ("total_steps",),
    "num_warmup_steps": ("warmup_steps",),
    "num_decay_steps": ("decay_steps",),
    # Shapes of schedules.
    "boundaries_and_scales": ("boundaries and factors",),
    "decay_rate": ("rate", "factor"),
    "values": ("factors",),
    "gamma": ("factor", "factors", "decay_rate"),
    "pct_start": ("start_fraction",),
    "anneal_strategy": ("anneal",),
    "T_mult": ("cycle_mult",),
    "t_mul": ("cycle_mult",),
    "m_mul": ("peak_decay",),
    # Averages.
    "momentum": ("b", "b1"),
    "beta": ("b", "b1"),
    "betas": ("b1 and b2",),
    "beta1": ("b1",),
    "beta2": ("b2",),
    "beta3": ("b3",),
    "beta_1": ("b1",),
    "beta_2": ("b2",),
    "beta_3": ("b3",),
    "decay": ("b",),
    "rho": ("decay",),
    "mu_dtype": ("accumulator_dtype",),
    "state_dtype": ("accumulator_dtype",),
    "bias_correction": ("debias",),
    "use_bias_correction": ("bias_correction",),
    # Small numbers.
    "epsilon": ("eps",),
    "eps_in_sqrt": ("eps_root",),
    "initial_accumulator_value": ("initial_sum",),
    # Muon.
    "ns_steps": ("steps",),
    "adam_b1": ("b1",),
    "adam_b2": ("b2",),
    "adam_eps_root": ("eps_root",),
    "adam_learning_rate": ("other_scale",),
    "muon_weight_dimension_numbers": ("matrices",),
    "weight_dimension_numbers": ("matrices",),
    # Methods that infer their rate.
    "estim_lr0": ("d0",),
    "estim_lr_coef": ("d_coef",),
    "growth_rate": ("growth",),
    "init_step": ("reps_rel",),
    "init_estim_sq_dist": ("reps_rel",),
    "s_init": ("initial_scale",),
    "num_betas": ("betas",),
    "weight_lr_power": ("weight_power",),
    "r": ("step_power",),
    "adapt_lower_bound": ("use_fstar",),
    # Controllers.
    "rtol": ("threshold",),
    "atol": ("threshold",),
    "min_delta": ("threshold",),
    "accumulation_size": ("window",),
    "scaling": ("c",),
    "f_min": ("lower_bound",),
    "max_backtracking_steps": ("max_trials",),
    "slope_rtol": ("c",),
    "decrease_factor": ("decrease",),
    "increase_factor": ("increase",),
    # Wrappers and masks.
    "base_optimizer": ("inner",),
    "optimizer": ("inner",),
    "opt": ("inner",),
    "weight_decay_mask": ("mask",),
}
"""Our names for an argument; the first that the function accepts is meant."""

REMARKS: dict[str | tuple[str, str], str] = {
    ("alpha", "end"): "a rate: alpha times the first one",
    ("min_lr", "min_scale"): "a factor: min_lr over the rate that is scaled",
    ("decay_rate", "rate"): "decay_rate / decay_steps",
    ("eps_in_sqrt", "eps_root"): "the eps inside the root",
    ("adam_learning_rate", "other_scale"): "adam_learning_rate / learning_rate",
    ("init_step", "reps_rel"): "the number of its heuristic",
    ("num_betas", "betas"): "the numbers themselves",
    ("atol", "threshold"): 'with threshold_mode="absolute"',
    ("scaling", "c"): "1 / scaling",
    ("init_value", "peak"): "where there is no warm-up, or adaptax.warmup's start",
    ("decay_steps", "total_steps"): "the steps of a warm-up count too",
    ("decay_steps", "every"): "where the rate is held, as a staircase",
    ("epochs", "total_steps"): "epochs * steps_per_epoch",
    ("steps_per_epoch", "total_steps"): "epochs * steps_per_epoch",
    ("values", "factors"): "each over the value before",
    "transition_begin": "adaptax.schedules.offset starts a schedule later",
    "amsgrad": "adam takes it",
    "weight_decay": "put optax.add_decayed_weights into the chain, or "
    "adaptax.with_weight_decay around the direction",
    "learning_rate": "multiply the updates by it, with optax.scale in the chain",
    "warmup_steps": "give a schedule as the learning_rate, such as "
    "adaptax.warmup(adaptax.constant(1e-3), 100)",
}
"""Remarks on a word as one of our arguments, or on a word that we have none for."""


def ours(word: str, factory: Callable[..., Any]) -> str | None:
    """Return the name of an argument of a factory that another library calls `word`."""
    takes = inspect.signature(factory).parameters
    if word in takes:
        return word
    for name in WORDS.get(word, ()):
        if all(part in takes for part in name.split(" and ")):
            return name
    return None


def translating(factory: Factory) -> Factory:
    """Explain the arguments of other libraries in a factory's errors.

    The factory's signature, documentation and type stay as they are. Its result stores
    the call, for `written`.
    """
    explain, remember = _explain, _remember

    def call(*arguments, **named):
        try:
            result = factory(*arguments, **named)
        except TypeError:
            explain(factory, arguments, named)
            raise
        remember(result, factory, arguments, named)
        return result

    # Doctest runs the examples of a function only if its globals are its module's.
    function = cast(FunctionType, factory)
    own = FunctionType(call.__code__, function.__globals__, closure=call.__closure__)
    return cast(Factory, functools.wraps(factory)(own))


def written(made: Any) -> str | None:
    """Return the call that made a transformation, as code; `None` if not known.

    >>> import adaptax
    >>> written(adaptax.cosine(1e-3, total_steps=100))
    'cosine(0.001, total_steps=100)'
    """
    call = getattr(made.init, "made_by", None)
    if call is None:
        return None
    factory, arguments, named = call
    shown = [_shown(value) for value in arguments]
    shown += [f"{key}={_shown(value)}" for key, value in named.items()]
    return f"{factory.__name__}({', '.join(shown)})"


def argument(made: Any, name: str) -> Any:
    """Return an argument of the call that made a transformation; `None` if not known.

    >>> import adaptax
    >>> argument(adaptax.cosine(1e-3, 100), "total_steps")
    100
    """
    call = getattr(getattr(made, "init", None), "made_by", None)
    if call is None:
        return None
    factory, arguments, named = call
    given = inspect.signature(factory).bind(*arguments, **named).arguments
    return given.get(name)


def _remember(made: Any, *call: Any) -> None:
    init = getattr(made, "init", None)
    if isinstance(init, FunctionType) and init.__closure__:  # made by this call
        init.made_by = call  # pyright: ignore[reportFunctionMemberAccess]


def _shown(value: Any) -> str:
    """Return a short text for an argument; for a traced one, without its value."""
    if isinstance(value, tuple) and hasattr(value, "init"):
        return written(value) or type(value).__name__
    if isinstance(value, list | tuple):
        few = [*map(_shown, value[:6]), *(["..."] if len(value) > 6 else [])]
        inner = ", ".join(few)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        kind = f"{value.dtype}{list(value.shape)}"
        concrete = value.shape == () and not isinstance(value, Tracer)
        return f"{value.item()!r}" if concrete else kind
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)


def _explain(factory: FunctionType, arguments: Any, named: Any) -> None:
    takes = inspect.signature(factory).parameters
    explanations = {
        word: _in_words(word, factory) for word in named if word not in takes
    }
    explained = [text for text in explanations.values() if text]
    if explained:
        message = f"{factory.__name__} got {', and '.join(explained)}."
        raise TypeError(message) from None
    kinds = {
        kind: [name for name, parameter in takes.items() if parameter.kind is kind]
        for kind in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_POSITIONAL,
        )
    }
    first, by_name, rest = kinds.values()
    if len(arguments) > len(first) and not rest:
        before = f"only {', '.join(first)} by position, and " if first else ""
        raise TypeError(
            f"{factory.__name__} takes {before}{', '.join(by_name)} by name: the order "
            "of arguments differs from library to library."
        ) from None


def _in_words(word: str, factory: Callable[..., Any]) -> str | None:
    name = ours(word, factory)
    if name is None:
        remark = REMARKS.get(word)
        return f"{word}, which it does not take: {remark}" if remark else None
    remark = REMARKS.get((word, name))
    return f"{word}, which is {name} here" + (f" ({remark})" if remark else "")
