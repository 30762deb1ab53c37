"""The catalogue in `flax.nnx.Optimizer`: trained, read, set, observed and evaluated."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from conformance.cases import CASES
from flax import nnx
from refusals import or_refusal

import adaptax


@pytest.fixture(autouse=True)
def _as_flax_promotes():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def network():
    return nnx.Linear(2, 3, rngs=nnx.Rngs(0))


def is_matrix(params):
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


AROUND = {
    "alone": lambda tx: tx,
    "partition": lambda tx: optax.partition(
        {"x": tx, "y": adaptax.gradient_descent(0.5)},
        lambda params: jax.tree.map(lambda one: "x" if one else "y", is_matrix(params)),
    ),
    "masked": lambda tx: optax.masked(tx, is_matrix),
}


def asked_of(optimizer, model, params=None):
    """Ask everything; what is refused is the beginning of the message."""
    found = {
        "telemetry": adaptax.telemetry(optimizer),
        "eval_params": adaptax.eval_params(
            optimizer, nnx.state(model, nnx.Param) if params is None else params
        ),
    }
    asks = {
        "rate": adaptax.learning_rate,
        "converged": adaptax.converged,
        "set": lambda state: adaptax.learning_rate(
            adaptax.set_learning_rate(state, 0.25)
        ),
    }
    return found | {name: or_refusal(ask, optimizer) for name, ask in asks.items()}


def plain(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


@pytest.mark.parametrize("around", AROUND)
def test_an_optimizer_of_nnx_trains_and_answers_as_a_bare_one(around):
    for case in CASES[list(AROUND).index(around) :: 3]:
        model = network()
        tx = optax.with_extra_args_support(AROUND[around](case.optimizer()))
        params = plain(model)
        gradients = jax.tree.map(jnp.ones_like, params)
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        given = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
        if "value_fn" in case.needs:  # of the parameters, which NNX wraps: see below
            continue
        state = tx.init(params)
        for _ in range(2):
            key = jax.random.key(0)
            extra_args = case.extra_args(
                jnp.ones(()), lambda _, g=gradients: g, key, params
            )
            optimizer.update(model, given, **extra_args)
            updates, state = tx.update(gradients, state, params, **extra_args)
            params = optax.apply_updates(params, updates)
        chex.assert_trees_all_close(plain(model), params, rtol=1e-5, atol=1e-6)
        found = asked_of(optimizer, model)
        bare = asked_of(state, None, params)
        assert found.keys() == bare.keys(), case
        for name in ("rate", "converged", "set"):
            if isinstance(bare[name], str):
                assert found[name] == bare[name], case
            else:
                chex.assert_trees_all_close(found[name], bare[name], rtol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_setting_and_observing_change_the_optimizer_itself(compiled):
    model = network()
    plateau = adaptax.reduce_on_plateau(factor=0.5, patience=0, monitor=None)
    optimizer = nnx.Optimizer(model, adaptax.adam([0.5, plateau]), wrt=nnx.Param)

    def change(optimizer):
        adaptax.set_learning_rate(optimizer, 0.25)
        for metric in (1.0, 1.0):
            plateau.observe(optimizer, metric)

    (nnx.jit(change) if compiled else change)(optimizer)
    assert float(adaptax.learning_rate(optimizer)) == 0.125
    assert adaptax.set_learning_rate(optimizer, 1.0) is optimizer
    assert plateau.observe(optimizer, 0.5) is optimizer
    both = {"one": optimizer}
    assert adaptax.set_learning_rate(both, 2.0)["one"] is optimizer
    assert float(adaptax.learning_rate(optimizer)) == 2.0


def test_moments_in_8_bits_are_kept_so():
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    tx = adaptax.quantized(adaptax.adam(0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    given = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    params, state = plain(model), tx.init(plain(model))
    gradients = jax.tree.map(jnp.ones_like, params)
    for _ in range(4):
        optimizer.update(model, given)
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(plain(model), params, rtol=1e-5)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(nnx.as_pure(optimizer.opt_state))]
    assert dtypes.count(jnp.int8) == 2


class Tied(nnx.Module):
    """A model with what no optimizer sees, and one layer in two places."""

    def __init__(self, rngs):
        self.first = self.last = nnx.Linear(2, 2, rngs=rngs)
        self.rest = nnx.List([nnx.BatchNorm(2, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)])


AVERAGING = {
    "iterate_average": lambda: adaptax.iterate_average(adaptax.gradient_descent(0.5)),
    "packed": lambda: adaptax.packed(AVERAGING["iterate_average"](), elementwise=True),
    "none": lambda: adaptax.gradient_descent(0.5),
}


@pytest.mark.parametrize("name", AVERAGING)
def test_a_model_is_evaluated_in_every_form_in_which_users_have_it(name):
    model = Tied(nnx.Rngs(0))
    tx = optax.with_extra_args_support(AVERAGING[name]())
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    gradients = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    for _ in range(2):
        optimizer.update(model, gradients, value=1.0)
    params, everything = nnx.state(model, nnx.Param), nnx.state(model)
    wanted = nnx.as_pure(adaptax.eval_params(optimizer, params))
    moved = jnp.any(wanted["first"]["kernel"] != model.first.kernel[...])
    assert moved == (name != "none")

    for given in (everything, nnx.to_pure_dict(params), nnx.to_pure_dict(everything)):
        found = adaptax.eval_params(optimizer.opt_state, given)
        assert type(found) is type(given)
        assert jax.tree.structure(found) == jax.tree.structure(given)
        pair = found["first"], wanted["first"]
        chex.assert_trees_all_equal(*map(jax.tree.leaves, pair))

    found = adaptax.eval_params(optimizer, model)
    wanted = jax.tree.leaves(wanted)
    chex.assert_trees_all_equal(jax.tree.leaves(plain(found)), wanted)
    assert found.first is found.last
    found.eval()
    assert not model.rest[1].deterministic
    jitted = nnx.jit(lambda *both: plain(adaptax.eval_params(*both)))
    chex.assert_trees_all_equal(jax.tree.leaves(jitted(optimizer, model)), wanted)


def test_parameters_of_another_model_are_refused_by_path():
    model = network()
    tx = adaptax.iterate_average(adaptax.gradient_descent(0.5))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    with pytest.raises(ValueError, match=r"no leaf \['bias'\], of which the optimizer"):
        adaptax.eval_params(optimizer, Tied(nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"params\['bias'\] has shape \(4,\), where"):
        adaptax.eval_params(optimizer, nnx.Linear(2, 4, rngs=nnx.Rngs(0)))


class Weights(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.arange(6.0).reshape(2, 3) / 4)


def loss_of(weights):
    return jnp.sum((weights.w[...] - 1.0) ** 2)


def test_a_line_search_evaluates_the_model_of_an_nnx_optimizer():
    tx = adaptax.gradient_descent([1.0, adaptax.line_search()])
    model = Weights()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graph, _ = nnx.split(model, nnx.Param)
    value, grads = nnx.value_and_grad(loss_of)(model)
    value_fn = lambda params: loss_of(nnx.merge(graph, params))  # noqa: E731
    params = {"w": model.w[...]}
    optimizer.update(model, grads, value=value, grad=grads, value_fn=value_fn)
    updates, _ = tx.update(
        {"w": grads.w[...]},
        tx.init(params),
        params,
        value=value,
        grad={"w": grads.w[...]},
        value_fn=lambda params: jnp.sum((params["w"] - 1.0) ** 2),
    )
    chex.assert_trees_all_close(model.w[...], params["w"] + updates["w"], rtol=1e-6)
    assert float(loss_of(model)) < float(value)


def test_the_state_of_an_nnx_optimizer_moves_in_from_optax():
    def trained(optimizer, model, steps):
        for _ in range(steps):
            optimizer.update(model, nnx.grad(loss_of)(model))
        return model.w[...]

    model, tx = Weights(), adaptax.adam(0.1)
    before = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    with jax.numpy_dtype_promotion("standard"):
        trained(before, model, 3)
        moved = nnx.Optimizer(nnx.clone(model), tx, wrt=nnx.Param)
        state = adaptax.from_optax(before, tx, nnx.state(model, nnx.Param))
        jax.tree.map(
            lambda variable, value: variable.set_value(value),
            moved.opt_state,
            state,
            is_leaf=lambda node: isinstance(node, nnx.Variable),
        )
        ours = trained(moved, nnx.clone(model), 2)
        chex.assert_trees_all_close(ours, trained(before, model, 2), rtol=1e-5)
