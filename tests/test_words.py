"""A call in the order or the words of another library never means something else."""

import inspect
import operator

import jax.numpy as jnp
import optax
import optax.contrib
import pytest
from conformance.contracts import contract_of

import adaptax
from adaptax import catalog
from adaptax._core import words

OF_DIRECTIONS = {
    "scale_by_gradient_descent": "identity",
    "scale_by_momentum": "trace",
    "scale_by_adagrad": "scale_by_rss",
    "scale_by_rmsprop": "scale_by_rms",
}
"""Optax's names of directions that are not `scale_by_` and ours."""

OF_OTHER_LIBRARIES = [
    ("linear", "start_factor end_factor total_iters"),
    ("linear", "lr start_factor end_factor total_iters"),
    ("polynomial", "lr total_iters power"),
    ("polynomial", "initial_learning_rate decay_steps end_learning_rate power"),
    ("step_decay", "lr step_size gamma"),
    ("exponential_decay", "lr gamma"),
    ("exponential_decay", "initial_learning_rate decay_steps decay_rate staircase"),
    ("inverse_time", "initial_learning_rate decay_steps decay_rate staircase"),
    ("inverse_sqrt", "lr num_warmup_steps"),
    ("piecewise", "lr milestones gamma"),
    ("piecewise", "boundaries values"),
    ("cosine", "lr T_max eta_min"),
    ("cosine", "initial_learning_rate decay_steps alpha"),
    ("cosine_restarts", "lr T_0 T_mult eta_min"),
    ("cosine_restarts", "initial_learning_rate first_decay_steps t_mul m_mul alpha"),
    ("cyclic", "base_lr max_lr step_size_up step_size_down mode gamma"),
    ("one_cycle", "max_lr total_steps epochs steps_per_epoch pct_start"),
    ("warmup_stable_decay", "lr num_warmup_steps num_decay_steps"),
    ("momentum", "lr momentum dampening weight_decay nesterov"),
    ("rmsprop", "lr alpha epsilon weight_decay momentum centered"),
    ("adagrad", "learning_rate initial_accumulator_value epsilon"),
    ("early_stop", "min_delta patience"),
    ("trac", "base_optimizer betas num_coords s_init"),
]
"""The order of arguments in PyTorch, Keras, Transformers and Flax."""


def found(path):
    """Look a function of Optax up by its name; the oldest supported lacks some."""
    try:
        return operator.attrgetter(path.removeprefix("optax."))(optax)
    except AttributeError:
        return None


def by_position(function):
    """List the arguments that it takes by position, and count those it needs."""
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    takes = inspect.signature(function).parameters.values()
    names = [parameter for parameter in takes if parameter.kind in kinds]
    needed = [one for one in names if one.default is inspect.Parameter.empty]
    return [one.name for one in names], len(needed)


FORMS = [
    (entry.factory, found(form))
    for entry in catalog.ENTRIES
    for form in contract_of(entry).optax_forms
] + [
    (entry.direction, found(f"optax.{OF_DIRECTIONS.get(name, name)}"))
    for entry in catalog.ENTRIES
    if entry.direction
    for name in [entry.direction.__name__]
]
FORMS = [(factory, form) for factory, form in FORMS if form]
ORDERS = [(factory, *by_position(form)) for factory, form in FORMS] + [
    (getattr(adaptax, name), order.split(), 2) for name, order in OF_OTHER_LIBRARIES
]


@pytest.mark.parametrize(
    ("factory", "theirs", "needed"),
    ORDERS,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_call_in_another_order_is_refused(factory, theirs, needed):
    signature = inspect.signature(factory)
    for given in range(max(needed, 1), len(theirs) + 1):
        try:
            bound = signature.bind(*theirs[:given])
        except TypeError:
            continue
        for name, word in bound.arguments.items():
            assert words.ours(word, factory) == name, (word, name)


def test_every_method_that_optax_has_by_a_like_name_lists_it():
    for entry in catalog.ENTRIES:
        for home in ("optax", "optax.contrib"):
            for name in (entry.name, f"{entry.name}_schedule"):
                path = f"{home}.{name}"
                if inspect.isfunction(found(path)) and entry.name != "monitor":
                    assert path in contract_of(entry).optax_forms, path


@pytest.mark.parametrize(
    "call",
    [
        lambda: adaptax.linear(1e-3, 1e-5, 1000),
        lambda: adaptax.polynomial(1e-3, 1e-5, 2, 1000),
        lambda: adaptax.one_cycle(1000, 1e-3),
        lambda: adaptax.cosine(1e-3, 1000, 0.1),
        lambda: adaptax.dog(1.0),
    ],
)
def test_an_order_that_is_refused_says_what_to_give_by_name(call):
    with pytest.raises(TypeError, match=r"takes .*\bby name: the order of arguments"):
        call()


def test_a_pair_of_betas_is_refused_in_the_place_of_one():
    with pytest.raises(TypeError, match="b1 must be a number"):
        adaptax.adam(1e-3, (0.9, 0.999))


FACTORIES = {
    factory.__name__: factory
    for entry in catalog.ENTRIES
    for factory in (entry.factory, entry.direction)
    if factory
}
every_factory = pytest.mark.parametrize("name", FACTORIES)


@every_factory
def test_a_word_of_another_library_is_answered_with_ours(name):
    factory = FACTORIES[name]
    takes = inspect.signature(factory).parameters
    for word in words.WORDS:
        if word in takes:
            continue
        known = words.ours(word, factory)
        if known is None:
            with pytest.raises(TypeError, match=word):
                factory(**{word: 0.5})
        else:
            with pytest.raises(TypeError) as refused:
                factory(**{word: 0.5})
            assert str(refused.value).startswith(
                f"{name} got {word}, which is {known} here"
            )
            assert all(part in takes for part in known.split(" and "))


@every_factory
def test_what_nobody_calls_an_argument_is_refused_as_python_does(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrod'"):
        FACTORIES[name](wrod=1.0)


@every_factory
def test_a_factory_keeps_its_signature_name_and_documentation(name):
    factory = FACTORIES[name]
    written = inspect.unwrap(factory)
    assert inspect.signature(factory) == inspect.signature(written)
    assert (factory.__name__, factory.__doc__) == (name, written.__doc__)
    assert factory.__globals__ is written.__globals__  # doctest looks there
    assert inspect.isfunction(factory)


@pytest.mark.parametrize(
    ("factory", "given", "says"),
    [
        ("adam", {"mu_dtype": jnp.float32}, "adam got mu_dtype, which is accumulator_"),
        ("adam", {"betas": (0.9, 0.99)}, "betas, which is b1 and b2 here"),
        ("adam", {"lr": 1e-3}, "lr, which is learning_rate here"),
        ("adam", {"weight_decay": 0.1}, "does not take: put optax.add_decayed_weights"),
        ("adamw", {"amsgrad": True}, "amsgrad, which it does not take: adam takes it"),
        ("adamw", {"weight_decay_mask": None}, "which is mask here"),
        ("reduce_on_plateau", {"rtol": 1e-3}, "which is threshold here"),
        ("reduce_on_plateau", {"accumulation_size": 2}, "which is window here"),
        (
            "linear",
            {"init_value": 1.0, "end_value": 0.1},
            "end_value, which is end",
        ),
        ("cosine", {"peak_value": 1.0}, "peak_value, which is peak here"),
        ("cosine", {"alpha": 0.1}, r"end here \(a rate: alpha times the first one\)"),
        ("linear", {"transition_begin": 5}, "schedules.offset starts"),
    ],
)
def test_the_words_of_optax_pytorch_and_keras_are_known(factory, given, says):
    with pytest.raises(TypeError, match=says):
        FACTORIES[factory](**given)


def test_an_error_in_the_use_of_an_argument_stays_as_it_is():
    with pytest.raises(TypeError, match="b1 must be a number, got 'x'"):
        adaptax.adam(1e-3, b1="x")
