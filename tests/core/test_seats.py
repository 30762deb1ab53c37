"""What a seat refuses, and that it refuses nothing else."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import adaptax
from adaptax import catalog, optimizers
from adaptax._core import rates
from adaptax.catalog import ENTRIES

SEATED = [entry for entry in ENTRIES if entry.has_seat and entry.family == "optimizer"]
SEATS = {
    "descend": adaptax.descend,
    "seat": rates.seat,
    "schedule_free": lambda rate: adaptax.schedule_free(optax.sgd(1.0), rate),
} | {entry.name: entry.factory for entry in SEATED}

RATE = 0.1
WHOLE = {
    f"{entry.name} {variant or ''}": lambda entry=entry, variant=variant: entry.make(
        **variant
    )
    for entry in ENTRIES
    if entry.family in ("optimizer", "wrapper")
    for variant in ({}, *entry.variants)
} | {
    "descend": lambda: adaptax.descend(RATE),
    "sgd": lambda: optax.sgd(RATE),
    "sgd with momentum": lambda: optax.sgd(RATE, 0.9, nesterov=True),
    "adam from 0": lambda: optax.adam(optax.linear_schedule(0.0, RATE, 10)),
    "a long sleep": lambda: optax.sgd(lambda step: jnp.where(step < 99, 0.0, RATE)),
    "adagrad": lambda: optax.adagrad(RATE),
    "lion": lambda: optax.lion(RATE),
    "lbfgs": lambda: optax.lbfgs(RATE, linesearch=None),
    "noisy_sgd": lambda: optax.noisy_sgd(RATE, key=0),
    "polyak_sgd": lambda: optax.polyak_sgd(RATE),
    "prodigy": optax.contrib.prodigy,
    "dog": lambda: optax.contrib.dog(1.0),
    "momo": optax.contrib.momo,
    "cocob": optax.contrib.cocob,
    "schedule_free": lambda: optax.contrib.schedule_free_adamw(),
    "mechanize": lambda: optax.contrib.mechanize(optax.adam(RATE)),
    "chain": lambda: optax.chain(optax.scale(RATE), optax.scale(-1.0)),
    "our rates and their sign": lambda: optax.chain(
        adaptax.constant(RATE), adaptax.reduce_on_plateau(), optax.scale(-1.0)
    ),
    "another metric": lambda: optax.chain(
        adaptax.reduce_on_plateau(monitor="accuracy"), adaptax.descend(RATE)
    ),
    "scale": lambda: optax.scale(-1e-3),
    "scale_by_schedule": lambda: optax.scale_by_schedule(lambda step: -RATE),
    "MultiSteps": lambda: optax.MultiSteps(
        optax.adam(RATE), 16
    ).gradient_transformation(),
    "accumulate": lambda: adaptax.accumulate(adaptax.adam(RATE), 32),
    "inject": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=RATE),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(RATE), 3),
    "masked": lambda: optax.masked(optax.sgd(RATE), lambda params: {"w": True}),
    "partition": lambda: optax.partition(
        {"all": optax.sgd(RATE)},
        lambda params: jax.tree.map(lambda leaf: "all", params),
    ),
}
DIRECTIONS = {
    entry.name: entry.direction
    for entry in ENTRIES
    if entry.direction and entry.name != "gradient_descent"
} | {
    "optax.scale_by_adam": optax.scale_by_adam,
    "optax.trace": lambda: optax.trace(0.9),
    "optax.scale_by_sign": optax.scale_by_sign,
}
RATES = {
    f"{entry.name} {variant or ''}": lambda entry=entry, variant=variant: [
        1.0,
        entry.make(**variant),
    ]
    for entry in ENTRIES
    if entry.family in ("schedule", "controller", "estimate")
    for variant in ({}, *entry.variants)
} | {
    "polyak": adaptax.polyak,
    "line_search": adaptax.line_search,
    "dog": adaptax.dog,
    "initial": lambda: adaptax.hypergradient(initial=0.1),
    "scale": lambda: optax.scale(RATE),
    "scale_by_schedule": lambda: optax.scale_by_schedule(
        optax.linear_schedule(0.0, RATE, 10)
    ),
    "scale_by_polyak": optax.scale_by_polyak,
    "plateau of Optax": lambda: [RATE, optax.contrib.reduce_on_plateau()],
    "clip": lambda: optax.chain(optax.clip(1.0), adaptax.constant(RATE)),
    "clip_by_global_norm": lambda: [optax.clip_by_global_norm(1.0), RATE],
    "identity": optax.identity,
    "inject": lambda: optax.inject_hyperparams(optax.scale)(step_size=RATE),
    "masked": lambda: optax.masked(optax.scale(RATE), {"other": True}),
    "0": lambda: optax.scale(0.0),
}
MULTIPLIERS = {
    entry.name: entry.make
    for entry in ENTRIES
    if entry.family == "controller" and entry.name not in ("phases", "hypergradient")
} | {
    "hypergradient": adaptax.hypergradient,
    "additive": lambda: adaptax.hypergradient(1e-6, rule="additive"),
    "a chain": lambda: optax.chain(
        adaptax.reduce_on_plateau(), adaptax.early_stop(name="stop")
    ),
    "a list": lambda: [adaptax.reduce_on_plateau(), adaptax.loss_ratio()],
    "masked": lambda: optax.masked(adaptax.reduce_on_plateau(), lambda tree: True),
    "plateau of Optax": optax.contrib.reduce_on_plateau,
}


def _refuses(make, seated, message):
    with pytest.raises(ValueError, match=message):
        make(seated)


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_a_whole_optimizer_is_no_rate(whole):
    made = whole()
    for make in (adaptax.adam, adaptax.prodigy):
        _refuses(make, made, "a whole optimizer, which has its own minus sign")
    _refuses(adaptax.momentum, [1.0, made], "a whole optimizer")


@pytest.mark.parametrize("make", SEATS.values(), ids=SEATS)
def test_every_seat_refuses_a_whole_optimizer(make):
    for whole in (adaptax.adam(RATE), optax.sgd(RATE), optax.scale(-1e-3)):
        _refuses(make, whole, "a whole optimizer")
    _refuses(make, optax.scale_by_adam(), "changes the direction")


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_a_direction_is_no_rate(direction):
    _refuses(adaptax.adam, direction(), "changes the direction")


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_whatever_scales_by_a_number_is_a_rate(rate):
    adaptax.adam(rate())
    adaptax.prodigy(rate())


NUMBERS = {
    "η": lambda rate: rate,
    "2η": lambda rate: 2 * rate,
    "1 − η/2": lambda rate: 1 - rate / 2,
    "0.3 − η": lambda rate: 0.3 - rate,  # of either sign, as far as one can know
    "a choice": lambda rate: jnp.where(rate > 0.2, rate, 0.2),
}
TRACED = {
    "jit": lambda build: jax.jit(build)(0.25),
    "vmap": lambda build: jax.vmap(build)(jnp.array([0.25, 0.125])),
    "jit of vmap": lambda build: jax.jit(jax.vmap(build))(jnp.array([0.25, 0.125])),
    "grad": lambda build: jax.grad(build)(0.25),
    "scan": lambda build: jax.lax.scan(
        lambda carry, rate: (carry, build(rate)), 0.0, jnp.ones(2) / 4
    ),
}


def _built(make):
    def build(rate):
        make(rate)
        return rate

    return build


@pytest.mark.parametrize("trace", TRACED.values(), ids=TRACED)
@pytest.mark.parametrize(
    "whole",
    [
        adaptax.adam,
        optax.sgd,
        optax.adam,
        lambda rate: optax.scale(-rate),
        lambda rate: optax.scale(-1e3 * rate),
        adaptax.descend,
        adaptax.prodigy,
        lambda rate: adaptax.accumulate(adaptax.momentum(rate), 4),
    ],
)
def test_it_is_refused_where_its_numbers_are_traced(whole, trace):
    with pytest.raises(ValueError, match="a whole optimizer"):
        trace(_built(lambda rate: adaptax.adam(whole(rate))))


@pytest.mark.parametrize("trace", TRACED.values(), ids=TRACED)
@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_a_traced_number_is_a_rate(number, trace):
    trace(_built(lambda rate: adaptax.adam(optax.scale(number(rate)))))
    trace(_built(lambda rate: adaptax.adam([number(rate), optax.scale(rate)])))


@pytest.mark.parametrize("multiplier", MULTIPLIERS.values(), ids=MULTIPLIERS)
def test_a_controller_that_multiplies_is_no_rate_by_itself(multiplier):
    remedy = re.escape("learning_rate=[1e-3, reduce_on_plateau()]")
    for make in (adaptax.adam, adaptax.descend, adaptax.schedule_free_adamw):
        _refuses(make, multiplier(), remedy)
    adaptax.adam([1e-3, multiplier()])
    adaptax.descend(multiplier(), 1e-3)


INFERRING = [
    *("prodigy", "dadapt_adam", "dadapt_sgd", "dadapt_lion", "momo", "momo_adam"),
    *("adamg", "schedule_free_polyak", "self_tuning"),
]


@pytest.mark.parametrize("entry", SEATED, ids=lambda entry: entry.name)
def test_every_seat_with_a_unit_refuses_a_lone_multiplier(entry):
    plateau = adaptax.reduce_on_plateau()
    if entry.name in INFERRING:
        entry.factory(plateau)
    else:
        _refuses(entry.factory, plateau, "only multiplies another rate")
    entry.factory([RATE, plateau])


def test_the_members_of_a_list_multiply():
    plateau = adaptax.reduce_on_plateau(0.5, patience=0)
    optimizer = adaptax.gradient_descent(
        [0.5, lambda step: jnp.where(step > 1, 1.5, 1.0), plateau]
    )
    state, moved = optimizer.init(1.0), []
    for value in (3.0, 3.0, 3.0):
        updates, state = optimizer.update(1.0, state, value=value)
        moved.append(float(updates))
    assert moved == [-0.5, -0.25, -0.1875]
    assert adaptax.learning_rate(state) == 0.1875
    state = plateau.observe(state, 4.0)
    assert adaptax.learning_rate(state) == 0.09375


def test_what_cannot_be_tried_is_taken():
    needs_more = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(),
        lambda updates, state, params, *, secret: (-updates, state),
    )
    adaptax.adam(needs_more)


def test_trying_a_transformation_leaves_no_trace():
    calls = []

    def update(updates, state, params=None):
        calls.append(updates)
        return updates, state

    tried = optax.GradientTransformation(lambda params: (), update)
    optimizer = adaptax.gradient_descent(tried)
    tried_at = len(calls)
    jax.jit(optimizer.update)(jnp.ones(3), optimizer.init(jnp.ones(3)))
    assert len(calls) == tried_at + 1


@pytest.mark.parametrize(
    "setting",
    [
        jax.debug_nans(True),
        jax.transfer_guard("disallow"),
        jax.enable_x64(True),
        jax.disable_jit(),
    ],
    ids=["debug_nans", "transfer_guard", "x64", "disable_jit"],
)
def test_it_is_told_under_every_setting_of_jax(setting):
    with setting:
        _refuses(adaptax.adam, optax.adam(RATE), "a whole optimizer")
        adaptax.adam(optax.scale(RATE))


@pytest.mark.parametrize("make", [optax.adam, optax.sgd, optax.adamw])
@pytest.mark.parametrize(
    "entry",
    [entry for entry in ENTRIES if entry.family in ("controller", "estimate")],
    ids=lambda entry: entry.name,
)
def test_optax_says_why_it_takes_no_rate_that_follows_training(make, entry):
    with pytest.raises(TypeError, match=r"a number or a function .*adaptax\.adam"):
        make(entry.make())


def test_a_rate_shows_the_call_that_made_it():
    assert repr(adaptax.reduce_on_plateau(patience=2, monitor=None)) == (
        "reduce_on_plateau(patience=2, monitor=None)"
    )
    for entry in ENTRIES:
        if entry.family in ("schedule", "controller", "estimate"):
            shown = repr(entry.make())
            assert shown.startswith(f"{entry.name}("), shown
            assert " at 0x" not in shown, shown
            assert len(shown) < 250, shown


def test_what_a_rate_shows_has_no_values_of_arrays_or_tracers():
    shown = []
    jax.jit(lambda peak: shown.append(repr(adaptax.cosine(peak, total_steps=9))))(1.0)
    schedule = adaptax.piecewise(0.1, (2, 4), jnp.ones(2))
    multiplied = adaptax.schedules.multiply(schedule, lambda step: 1.0)
    shown += [repr(schedule), repr(multiplied)]
    assert shown == [
        "cosine(float32[], total_steps=9)",
        "piecewise(0.1, (2, 4), float32[2])",
        "<schedule>",
    ]


def test_no_closure_contains_itself():
    seen = [entry.make() for entry in ENTRIES]
    seen += [entry.direction() for entry in ENTRIES if entry.direction]
    seen += [adaptax.descend([1e-3, adaptax.reduce_on_plateau()]), adaptax.pack]
    for made in seen:
        _require_acyclic(made, ())


def _require_acyclic(node, above):
    if isinstance(node, tuple | list | dict):
        parts = node.values() if isinstance(node, dict) else node
    elif hasattr(node, "__closure__"):
        assert not any(node is one for one in above), f"{node} contains itself"
        above = (*above, node)
        parts = [cell.cell_contents for cell in node.__closure__ or ()]
    else:
        return
    for part in parts:
        _require_acyclic(part, above)


def test_the_catalogue_agrees_about_lone_multipliers():
    """Its controllers are put behind a number; see `Entry.optimizer`."""
    controller = catalog.find("reduce_on_plateau", "controller")
    optimizer = optax.with_extra_args_support(controller.optimizer())
    state = optimizer.init(jnp.ones(3))
    updates, state = optimizer.update(jnp.ones(3), state, value=1.0)
    np.testing.assert_array_equal(updates, -1.0)
    with pytest.raises(ValueError, match="only multiplies"):
        optimizers.gradient_descent(controller.make())
