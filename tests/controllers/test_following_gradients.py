"""What holds for every controller that follows the gradients."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from steps import minimize

import adaptax
from adaptax import catalog

CONTROLLERS = {
    "polyak": adaptax.polyak,
    "hypergradient": adaptax.hypergradient,
    "noise": adaptax.gradient_variance,
    "norm": lambda decay=0.9: adaptax.gradient_variance(decay, by="norm"),
    "sasa": lambda factor=0.5: adaptax.stationarity(factor, warmup=0, window=32),
    "pflug": lambda factor=0.5: adaptax.stationarity(factor, warmup=0, test="pflug"),
    "line search": lambda initial=1.0: adaptax.line_search(initial=initial),
}
CURVATURES = jnp.asarray([0.1, 0.4, 1.0])


def loss(params):
    return jnp.sum(CURVATURES * params["w"].astype(jnp.float32) ** 2) / 2


def start(dtype=jnp.float32):
    return {"w": jnp.asarray([3.0, -2.0, 1.0]).astype(dtype)}


def extra_args(gradient, value=1.0):
    return {"value": value, "grad": gradient, "value_fn": loss}


def updated(controller, scale, value=1.0, state=None):
    gradient = {"w": scale * jnp.asarray([1.0, 2.0, -1.0])}
    state = controller.init(gradient) if state is None else state
    return controller.update(gradient, state, start(), **extra_args(gradient, value))


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e30], ids=str)
def test_a_gradient_without_a_norm_is_counted_and_changes_nothing_else(name, scale):
    controller = CONTROLLERS[name]()
    _, before = updated(controller, 1.0)
    _, after = updated(controller, scale, state=before)
    assert int(after.skipped) == int(before.skipped) + 1
    jax.tree.map(np.testing.assert_array_equal, after.followed, before.followed)
    update, _ = updated(controller, 1.0, state=after)
    assert jnp.isfinite(update["w"]).all()


@pytest.mark.parametrize("name", ["polyak", "line search"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_keeps_the_last_rate(name, bad):
    controller = CONTROLLERS[name]()
    _, before = updated(controller, 1.0, 2.0)
    update, after = updated(controller, 1.0, bad, before)
    jax.tree.map(np.testing.assert_array_equal, after.followed, before.followed)
    assert float(adaptax.learning_rate(after)) > 0
    np.testing.assert_allclose(update["w"][0], adaptax.learning_rate(before))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_gradients_of_zero_move_nothing_and_stay_finite(name):
    state = None
    for scale in (0.0, 0.0, 1e-42):
        update, state = updated(CONTROLLERS[name](), scale, state=state)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        np.testing.assert_allclose(update["w"], 0, atol=1e-30)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_squares_of_half_precision_do_not_overflow(name):
    controller, params = CONTROLLERS[name](), start(jnp.float16)
    gradient = {"w": jnp.full(3, 1000, jnp.float16)}
    wide = {"w": jnp.full(3, 1000.0)}
    half = controller.update(
        gradient, controller.init(params), params, **extra_args(wide)
    )[1]
    single = controller.update(
        wide, controller.init(start()), start(), **extra_args(wide)
    )[1]
    assert int(half.skipped) == 0
    np.testing.assert_allclose(
        adaptax.learning_rate(half), adaptax.learning_rate(single), rtol=1e-2
    )


@pytest.mark.parametrize("name", CONTROLLERS)
def test_members_under_vmap_are_runs_of_their_own(name):
    def run(argument):
        optimizer = adaptax.descend(0.02, CONTROLLERS[name](argument))
        return minimize(optimizer, loss, start(), 40)

    arguments = jnp.asarray([0.3, 0.6, 0.9])
    together = jax.jit(jax.vmap(run))(arguments)
    alone = jax.jit(run)
    for index, argument in enumerate(arguments):
        jax.tree.map(
            lambda x, y, index=index: np.testing.assert_allclose(
                x[index], y, rtol=2e-4, atol=1e-6
            ),
            together,
            alone(argument),
        )


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_restored_state_goes_on_bit_for_bit(name):
    optimizer = adaptax.gradient_descent([1.0, CONTROLLERS[name]()])

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(
            gradient, state, params, **extra_args(gradient, value)
        )
        return jax.tree.map(jnp.add, params, updates), state

    params, state = start(), optimizer.init(start())
    for _ in range(5):
        params, state = step(params, state)
    packed = flax.serialization.to_bytes((params, state))
    restored = flax.serialization.from_bytes((params, state), packed)
    for _ in range(5):
        params, state = step(params, state)
        restored = step(*restored)
    jax.tree.map(np.testing.assert_array_equal, restored, (params, state))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_there_is_nothing_to_observe(name):
    controller = CONTROLLERS[name]()
    with pytest.raises(ValueError, match="no metric to observe"):
        controller.observe(controller.init(start()), 1.0)


def test_the_gradient_is_what_is_told_by_its_name():
    controller = adaptax.gradient_variance(by="norm")
    _, state = updated(controller, 1.0)
    gradient = {"w": jnp.asarray([2.0, 4.0, -2.0])}
    update, _ = controller.update(start(), state, start(), grad=gradient)
    np.testing.assert_allclose(update["w"], start()["w"] / 2, rtol=1e-6)


def test_under_a_mask_only_its_own_part_of_the_gradient_counts():
    gradient = {"a": jnp.asarray(2.0), "b": jnp.asarray(100.0)}
    inner = adaptax.gradient_variance(by="norm")
    masked = optax.masked(inner, {"a": True, "b": False})
    rates = optax.chain(adaptax.constant(1.0), masked)
    state = rates.init(gradient)
    for scale in (1.0, 2.0):
        given = {"a": scale * gradient["a"], "b": gradient["b"]}
        _, state = rates.update(given, state, given, grad=given)
    assert adaptax.learning_rate(state) == 0.5


REFUSED = {
    "max_rate": (adaptax.polyak, [0.0, -1.0, np.nan]),
    "c": (adaptax.polyak, [0.0, np.inf]),
    "lower_bound": (adaptax.polyak, [np.nan]),
    "growth": (adaptax.polyak, [0.9]),
    "eps": (adaptax.polyak, [-1e-8]),
    "beta": (adaptax.hypergradient, [-0.1, 1.0]),
    "initial": (adaptax.hypergradient, [0.0]),
    "min_scale": (adaptax.hypergradient, [0.0, 1.5]),
    "max_scale": (adaptax.gradient_variance, [0.5]),
    "decay": (adaptax.gradient_variance, [1.0, -0.1]),
    "exponent": (adaptax.gradient_variance, [-1.0]),
    "factor": (adaptax.stationarity, [0.0, 1.0]),
    "significance": (adaptax.stationarity, [0.0, 1.0]),
    "window": (adaptax.stationarity, [31]),
    "every": (adaptax.stationarity, [0]),
    "warmup": (adaptax.stationarity, [-1]),
    "decrease": (adaptax.line_search, [1.0]),
    "increase": (adaptax.line_search, [0.9]),
    "max_trials": (adaptax.line_search, [0]),
    "tolerance": (adaptax.line_search, [-1.0]),
}


@pytest.mark.parametrize("argument", REFUSED)
def test_a_bad_argument_is_refused_by_name(argument):
    factory, values = REFUSED[argument]
    for value in values:
        with pytest.raises(ValueError, match=f"{argument} must be"):
            factory(**{argument: value})


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("rule must be one of", lambda: adaptax.hypergradient(rule="any")),
        ("by must be one of", lambda: adaptax.gradient_variance(by="size")),
        ("test must be one of", lambda: adaptax.stationarity(test="adf")),
        ("test must be one of", lambda: adaptax.line_search(test="wolfe")),
        ("growth needs a max_rate", lambda: adaptax.polyak(None, growth=1.1)),
        ("c must be", lambda: adaptax.line_search(c=0.6, test="goldstein")),
        (
            "micro_batches needs",
            lambda: adaptax.gradient_variance(by="norm", micro_batches=True),
        ),
    ],
)
def test_structural_arguments_that_do_not_fit_are_refused(message, make):
    with pytest.raises(ValueError, match=message):
        make()


def test_each_of_them_is_in_the_catalogue():
    names = {entry.name for entry in catalog.ENTRIES}
    tried = {factory.__name__ for factory, _ in REFUSED.values()}
    assert tried <= names
