"""Trials of Flax models, against loops written by hand in Flax."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import adaptax
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.programs import Programs

KEY = jax.random.key(3)
HPARAMS = {"learning_rate": np.float32(0.05)}
X = jax.random.normal(jax.random.key(1), (32, 3))
DATA = {"x": X, "y": jnp.sin(X.sum(axis=1))}


@pytest.fixture(autouse=True)
def promotion():
    """Flax promotes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Network(nnx.Module):
    """A network with batch statistics, dropout and a layer that is used twice."""

    def __init__(self, rate, rngs):
        # A bias would have no gradient but rounding, which Adam blows up.
        self.first = nnx.Linear(3, 8, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.hidden = nnx.List([nnx.Linear(8, 8, rngs=rngs)])
        self.hidden.append(self.hidden[0])
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(jax.nn.relu(self.norm(self.first(x))))
        for layer in self.hidden:
            x = jnp.tanh(layer(x))
        return self.last(x)[:, 0]


def mean_error(model, batch):
    return jnp.mean((model(batch["x"]) - batch["y"]) ** 2)


def network_trial(rate=0.5, loss=mean_error, **options):
    return adaptax.nnx_trial(
        lambda rngs: Network(rate, rngs),
        loss,
        lambda hparams: adaptax.adam(hparams["learning_rate"]),
        DATA,
        **options,
    )


class Compiled:
    """A trial and its functions, compiled once for all tests."""

    def __init__(self, trial):
        self.trial = trial
        self.init = jax.jit(trial.init)
        self.advance = jax.jit(trial.advance, static_argnums=2)
        self.evaluate = jax.jit(trial.evaluate)


@pytest.fixture(scope="module")
def network():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return Compiled(network_trial(eval_data=DATA))


def as_model(state, rate=0.5):
    """Return the model that a state stands for."""
    fixed, *_ = nnx.split(Network(rate, nnx.Rngs(0)), nnx.Param, ...)
    return nnx.merge(fixed, state.params, state.model_state)


def types(tree):
    """List the types of the leaves, whether they are weak too; keys cannot be."""
    return [
        (path, leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False))
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def test_a_trial_trains_as_a_loop_of_flax_does_with_dropout_too(network):
    start = network.init(HPARAMS, KEY)
    state, losses = network.advance(HPARAMS, start, 5)
    model = as_model(start)
    optimizer = nnx.Optimizer(model, optax.adam(0.05), wrt=nnx.Param)
    model.train()

    @nnx.jit
    def train_step(model, optimizer):
        loss, grads = nnx.value_and_grad(mean_error)(model, DATA)
        optimizer.update(model, grads)
        return loss

    expected = [train_step(model, optimizer) for _ in range(5)]
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-4)
    _, params, others = nnx.split(model, nnx.Param, ...)
    for found, wanted in (
        (state.params, nnx.to_pure_dict(params)),
        (state.model_state["norm"], nnx.to_pure_dict(others)["norm"]),
    ):
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        for one, other in zip(
            jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_batch_statistics_move_to_those_of_the_batch(network):
    start = network.init(HPARAMS, KEY)
    state, _ = network.advance(HPARAMS, start, 1)
    inputs = X @ start.params["first"]["kernel"]
    found = state.model_state["norm"]
    np.testing.assert_allclose(found["mean"], 0.1 * inputs.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * inputs.var(0), rtol=1e-5)


def test_the_score_is_the_loss_in_eval_mode_whatever_dropout_would_draw(network):
    state, _ = network.advance(HPARAMS, network.init(HPARAMS, KEY), 3)
    score = network.evaluate(HPARAMS, state)
    model = as_model(state)
    model.eval()
    np.testing.assert_allclose(score, mean_error(model, DATA), rtol=1e-5)
    stream = state.model_state["dropout"]["rngs"]
    others = {
        **state.model_state,
        "dropout": {"rngs": {**stream, "count": stream["count"] + 7}},
    }
    assert score == network.evaluate(HPARAMS, state._replace(model_state=others))
    model.train()
    assert abs(mean_error(model, DATA) - score) > 1e-3


def test_dropout_differs_between_steps_and_seeds_and_is_repeatable(network):
    still = {"learning_rate": np.float32(0)}
    start = network.init(still, KEY)
    _, losses = network.advance(still, start, 5)
    assert len(set(losses.tolist())) == 5
    _, again = network.advance(still, network.init(still, KEY), 5)
    np.testing.assert_array_equal(losses, again)
    other = network.init(still, jax.random.key(4))
    _, others = network.advance(still, other._replace(params=start.params), 5)
    assert not set(losses.tolist()) & set(others.tolist())


def test_without_dropout_a_loss_at_rate_zero_stays():
    trial = network_trial(rate=0.0)
    still = {"learning_rate": np.float32(0)}
    _, losses = trial.advance(still, trial.init(still, KEY), 3)
    assert len(set(losses.tolist())) == 1


def test_two_steps_and_three_are_five(network):
    start = network.init(HPARAMS, KEY)
    whole, losses = network.advance(HPARAMS, start, 5)
    middle, first = network.advance(HPARAMS, start, 2)
    end, second = network.advance(HPARAMS, middle, 3)
    np.testing.assert_allclose(losses, jnp.concatenate([first, second]), rtol=1e-5)
    assert types(whole) == types(end) == types(start)


def test_members_side_by_side_train_as_each_does_alone(network):
    hparams = {"learning_rate": np.float32([0.1, 0.01, 0.05])}
    seeds = np.arange(3)
    programs = Programs(network.trial, KEY)
    population = Population(programs, Plan(3, 1), hparams, seeds)
    losses = population.advance(4)
    scores, _ = population.judge()
    assert scores is not None
    for member, seed in enumerate(seeds):
        mine = {"learning_rate": hparams["learning_rate"][member]}
        start = network.init(mine, jax.random.fold_in(KEY, seed))
        state, expected = network.advance(mine, start, 4)
        np.testing.assert_allclose(losses[member], expected, rtol=1e-4)
        score = network.evaluate(mine, state)
        np.testing.assert_allclose(scores[member], score, rtol=1e-3)
    restored = Population(programs, Plan(3, 1), hparams, seeds)
    restored.restore(population.saved(), population.step)
    np.testing.assert_array_equal(restored.advance(2), population.advance(2))


def test_the_state_has_strong_types_that_stay_for_half_precision_and_plain_numbers():
    class Half(nnx.Module):
        def __init__(self, rngs):
            half = jnp.bfloat16
            self.norm = nnx.BatchNorm(3, dtype=half, param_dtype=half, rngs=rngs)
            self.scale = nnx.Param(1.0)
            self.calls = nnx.Variable(0)
            self.peak = nnx.Variable(jnp.zeros((), half))

        def __call__(self, x):
            self.calls[...] += 1
            self.peak.set_value(jnp.maximum(self.peak[...], jnp.abs(x).max()))
            return self.norm(x).sum(axis=1) * self.scale[...]

    trial = adaptax.nnx_trial(
        Half, mean_error, lambda h: adaptax.adam(h["learning_rate"]), DATA
    )
    start = trial.init(HPARAMS, KEY)
    state, _ = trial.advance(HPARAMS, start, 3)
    assert types(state) == types(start)
    assert not any(weak for *_, weak in types(start))
    assert state.model_state["calls"] == 3
    assert state.model_state["peak"] == jnp.abs(X).max().astype(jnp.bfloat16)


def test_no_parameters_are_made_before_a_member_is():
    kernels = []

    def make(rngs):
        model = nnx.Linear(3, 1, rngs=rngs)
        kernels.append(model.kernel.get_value())
        return model

    def loss(model, batch):
        return jnp.mean(model(batch["x"]) ** 2)

    trial = adaptax.nnx_trial(make, loss, adaptax.gradient_descent, DATA)
    assert len(kernels) == 1
    assert isinstance(kernels[0], jax.core.Tracer)
    trial.init(0.1, KEY)
    assert len(kernels) == 2
    assert not isinstance(kernels[1], jax.core.Tracer)


def test_auxiliary_scalars_and_metrics_are_handed_on():
    def loss(model, batch):
        return mean_error(model, batch), {"rows": len(batch["x"])}

    def evaluate(model, held_out):
        return mean_error(model, held_out), {"modes": model.dropout.deterministic}

    trial = network_trial(loss=loss, has_aux=True, evaluate=evaluate, eval_data=DATA)
    state, _ = trial.advance(HPARAMS, trial.init(HPARAMS, KEY), 2)
    assert state.aux == {"rows": 32.0}
    assert trial.evaluate is not None
    assert trial.evaluate(HPARAMS, state)[1] == {"modes": True}
    judged_by_loss = network_trial(loss=loss, has_aux=True, eval_data=DATA)
    assert judged_by_loss.evaluate is not None
    score, metrics = judged_by_loss.evaluate(HPARAMS, state)
    assert metrics == {"rows": 32}
    np.testing.assert_allclose(score, trial.evaluate(HPARAMS, state)[0], rtol=1e-5)
    assert network_trial().evaluate is None


def test_intermediates_are_dropped_and_other_new_variables_refused():
    def loss(kind):
        def measure(model, batch):
            model.seen = kind(jnp.ones(()))
            return mean_error(model, batch)

        return measure

    trial = network_trial(loss=loss(nnx.Intermediate))
    state, _ = trial.advance(HPARAMS, trial.init(HPARAMS, KEY), 2)
    assert "seen" not in state.model_state
    refused = network_trial(loss=loss(nnx.BatchStat))
    with pytest.raises(ValueError, match="loss must not add variables"):
        refused.init(HPARAMS, KEY)


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(TypeError, match="make_model must be a function, got 3"):
        adaptax.nnx_trial(3, mean_error, adaptax.adam, DATA)  # pyright: ignore
    with pytest.raises(TypeError, match=r"must return an nnx\.Module, got dict"):
        adaptax.nnx_trial(lambda rngs: {}, mean_error, adaptax.adam, DATA)
    with pytest.raises(TypeError, match="loss must be a function, got None"):
        network_trial(loss=None)
    with pytest.raises(TypeError, match="evaluate must be a function, got 1"):
        network_trial(evaluate=1, eval_data=DATA)
    with pytest.raises(ValueError, match="evaluate needs eval_data"):
        network_trial(evaluate=mean_error)


def test_a_missing_flax_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(ImportError, match=r'pip install "adaptax\[examples\]"'):
        network_trial()


def test_a_linen_model_trains_in_a_plain_trial_as_the_text_of_trial_says():
    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            x = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
            x = linen.Dropout(0.5, deterministic=not train)(jax.nn.relu(x))
            return linen.Dense(1)(x)[:, 0]

    model = Linen()

    def init_params(key):
        variables = model.init(key, X, train=False)
        return variables["params"], variables["batch_stats"]

    def loss(params, batch_stats, batch, key):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["x"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return jnp.mean((outputs - batch["y"]) ** 2), changed["batch_stats"]

    trial = adaptax.trial(
        init_params,
        loss,
        lambda hparams: adaptax.adam(hparams["learning_rate"]),
        DATA,
        has_state=True,
        has_key=True,
    )
    start = trial.init(HPARAMS, KEY)
    advance = jax.jit(trial.advance, static_argnums=2)
    state, losses = advance(HPARAMS, start, 60)
    assert losses[-10:].mean() < 0.7 * losses[:5].mean()
    moved = state.model_state["BatchNorm_0"]["mean"]
    assert jnp.abs(moved - start.model_state["BatchNorm_0"]["mean"]).min() > 0
