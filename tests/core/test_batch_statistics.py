"""Statistics of batch normalization at averaged parameters, in Flax and in trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import adaptax
from adaptax.flax import refresh_statistics

X = 3 + 2 * jax.random.normal(jax.random.key(1), (96, 3))
Y = jnp.sin(X.sum(axis=1))
BATCHES = X.reshape(4, 24, 3)


@pytest.fixture(autouse=True)
def promotion():
    """Flax promotes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Network(nnx.Module):
    """A normalization behind a linear layer, one of its own inputs, and dropout."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(8, rngs=rngs)])
        self.frozen = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        x = self.norms[0](self.first(x))
        return self.last(self.dropout(jax.nn.relu(x)))[:, 0]


class LinenNetwork(linen.Module):
    """The same in Linen, without the dropout."""

    @linen.compact
    def __call__(self, x, train=True):
        x = linen.Dense(8)(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(1)(jax.nn.relu(x))[:, 0]


def statistics(first):
    """Return the mean over the batches of the statistics behind a linear layer."""
    hidden = BATCHES @ first["kernel"] + first["bias"]
    return {"mean": hidden.mean(axis=(0, 1)), "var": hidden.var(axis=1).mean(axis=0)}


def assert_close(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_an_nnx_model_gets_the_mean_statistics_and_keeps_all_else():
    model = Network(nnx.Rngs(0))
    model.eval()
    before = nnx.to_pure_dict(nnx.state(model))
    assert refresh_statistics(model, BATCHES) is model
    after = nnx.to_pure_dict(nnx.state(model))
    assert_close(after["norms"][0], statistics(before["first"]))
    kept = {"norms": before["norms"]}
    assert model.norms[0].momentum == 0.99
    assert model.norms[0].use_running_average
    jax.tree.map(
        lambda old, new: np.testing.assert_array_equal(_data(old), _data(new)),
        before,
        {**after, **kept},
    )


def _data(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def test_a_collection_of_linen_gets_the_mean_statistics():
    variables = LinenNetwork().init(jax.random.key(0), X[:2])
    params = variables["params"]

    def forward(batch_stats, batch):
        given = {"params": params, "batch_stats": batch_stats}
        _, changed = LinenNetwork().apply(given, batch, mutable=["batch_stats"])
        return changed["batch_stats"]

    found = refresh_statistics(variables["batch_stats"], BATCHES, forward)
    assert_close(found["norm"], statistics(params["Dense_0"]))
    once = forward(variables["batch_stats"], X)  # later calls average as before
    np.testing.assert_allclose(
        once["norm"]["mean"], 0.01 * found["norm"]["mean"], rtol=1e-4, atol=1e-5
    )


def test_a_model_without_batch_normalization_is_not_changed():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    before = model.kernel[...]
    refresh_statistics(model, BATCHES)
    np.testing.assert_array_equal(model.kernel[...], before)


def test_missing_arguments_are_named():
    with pytest.raises(ValueError, match="batches must have at least one"):
        refresh_statistics(Network(nnx.Rngs(0)), [])
    with pytest.raises(TypeError, match="forward must be a function"):
        refresh_statistics({"norm": {}}, BATCHES)


def average(hparams):
    return adaptax.iterate_average(adaptax.gradient_descent(hparams["learning_rate"]))


def plain(hparams):
    return adaptax.gradient_descent(hparams["learning_rate"])


def nnx_network_trial(optimizer):
    def loss(model, batch):
        return jnp.mean((model(batch["x"]) - batch["y"]) ** 2)

    return adaptax.nnx_trial(
        lambda rngs: Network(rngs),
        loss,
        optimizer,
        {"x": X, "y": Y},
        24,
        eval_data={"x": X, "y": Y},
        evaluate=lambda model, data: (loss(model, data), _judged(model)),
    )


def _judged(model):
    return {"mean": model.norms[0].mean[...][0], "kernel": model.first.kernel[...]}


def linen_trial(optimizer):
    def loss(params, batch_stats, batch):
        given = {"params": params, "batch_stats": batch_stats}
        outputs, changed = LinenNetwork().apply(
            given, batch["x"], mutable=["batch_stats"]
        )
        return jnp.mean((outputs - batch["y"]) ** 2), changed["batch_stats"]

    def evaluate(params, batch_stats, data):
        given = {"params": params, "batch_stats": batch_stats}
        outputs = LinenNetwork().apply(given, data["x"], train=False)
        metrics = {
            "mean": batch_stats["norm"]["mean"][0],
            "kernel": params["Dense_0"]["kernel"],
        }
        return jnp.mean((outputs - data["y"]) ** 2), metrics

    def init(key):
        variables = LinenNetwork().init(key, X[:2])
        return variables["params"], variables["batch_stats"]

    return adaptax.trial(
        init,
        loss,
        optimizer,
        {"x": X, "y": Y},
        24,
        has_state=True,
        evaluate=evaluate,
        eval_data={"x": X, "y": Y},
    )


@pytest.mark.parametrize("make", [nnx_network_trial, linen_trial])
def test_a_trial_judges_averaged_parameters_with_their_own_statistics(make):
    hparams = {"learning_rate": 0.05}
    trial = make(average)
    state = trial.init(hparams, jax.random.key(0))
    middle = jax.tree.map(lambda leaf: leaf + 0.5, state.params)
    averaged = state.opt_state._replace(step=jnp.int32(9), average=middle)
    score, metrics = trial.evaluate(hparams, state._replace(opt_state=averaged))
    hidden = X @ metrics["kernel"][:, 0] + 0.5
    np.testing.assert_allclose(metrics["mean"], hidden.mean(), rtol=1e-4)

    # As trained parameters, they have the statistics that there are: wrong ones.
    trained = state._replace(params=middle, opt_state=())
    without, metrics = make(plain).evaluate(hparams, trained)
    assert metrics["mean"] == 0
    assert without > 5 * score
