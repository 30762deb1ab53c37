import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import adaptax
from adaptax.spaces import grid, log_uniform
from adaptax.tuning.running.acting import differing, require_acting
from adaptax.tuning.running.programs import Programs
from tests.tuning.lines import line_trial

RATE = "learning_rate"
BRIEF = {"num_steps": 10, "strategy": "vmap", "progress": False}


def rates(name):
    return {name: log_uniform(1e-3, 1e-2)}


TOOLS = {
    "finder": lambda trial, name: adaptax.find_learning_rate(trial, name=name, **BRIEF),
    "sweep": lambda trial, name: adaptax.sweep(
        trial, {name: grid([0.1, 0.01])}, **BRIEF
    ),
    "halving": lambda trial, name: adaptax.successive_halving(
        trial, {name: [0.1, 0.01]}, **BRIEF
    ),
    "population": lambda trial, name: adaptax.population_based_training(
        trial, rates(name), interval=5, members=3, **BRIEF
    ),
    "branch": lambda trial, name: adaptax.branch(
        trial,
        rates(name),
        stages=2,
        stage_steps=5,
        branches=2,
        strategy="vmap",
        progress=False,
    ),
    "search": lambda trial, name: adaptax.search_schedule(
        trial, name=name, knots=2, population=4, generations=2, fresh_seeds=2, **BRIEF
    ),
}
WITHIN_RUNS = ("finder", "population", "branch", "search")


def injected(learning_rate):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)


def fixed(learning_rate):
    del learning_rate
    return adaptax.adam(1e-3)


def nnx_line(optimizer):
    data = {"x": jnp.ones((4, 1)), "y": jnp.ones((4, 1))}
    return adaptax.nnx_trial(
        lambda rngs: nnx.Linear(1, 1, rngs=rngs),
        lambda model, batch: jnp.mean((model(batch["x"]) - batch["y"]) ** 2),
        lambda hparams: optimizer(hparams[RATE]),
        data,
    )


def by_hand(optimizer):
    """A trial without data, written by hand, which keeps the optimizer's state."""

    def init(hparams, key):
        w = jax.random.normal(key, (3,))
        return w, optimizer(hparams[RATE]).init(w)

    def advance(hparams, state, num_steps):
        def step(state, _):
            w, opt_state = state
            updates, opt_state = optimizer(hparams[RATE]).update(w, opt_state, w)
            return (optax.apply_updates(w, updates), opt_state), jnp.sum(w**2) / 2

        return jax.lax.scan(step, state, length=num_steps)

    return adaptax.Trial(init, advance)


KINDS = {"trial": line_trial, "nnx": nnx_line, "by hand": by_hand}


class WasAcceptedError(Exception):
    """A tool was about to compile its first program."""


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch):
    def refuse(self, name, *arguments):
        raise WasAcceptedError

    monkeypatch.setattr(Programs, "get", refuse)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_that_ignores_the_hyperparameter_is_refused_before_a_step(tool, kind):
    with pytest.raises(ValueError, match="'learning_rate' is varied, but no loss"):
        TOOLS[tool](KINDS[kind](fixed), RATE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tool", WITHIN_RUNS)
def test_a_value_that_only_init_reads_is_not_varied_within_a_run(tool, kind):
    with pytest.raises(ValueError, match="'learning_rate' is varied within a run"):
        TOOLS[tool](KINDS[kind](injected), RATE)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_hyperparameter_is_named_beside_those_that_are_there(tool):
    message = "reads the hyperparameter 'learning_rate', and there are only 'rate'"
    with pytest.raises(KeyError, match=message):
        TOOLS[tool](line_trial(), "rate")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_misspelt_hyperparameter_with_a_default_is_refused(tool):
    trial = line_trial()
    for_all = trial._replace(
        init=lambda hparams, key, shared=None: trial.init(
            {RATE: hparams.get(RATE, 0.1)}, key, shared
        ),
        advance=lambda hparams, state, n, shared=None: trial.advance(
            {RATE: hparams.get(RATE, 0.1)}, state, n, shared
        ),
    )
    with pytest.raises(ValueError, match=r"'lerning_rate' is varied.*correct its name"):
        TOOLS[tool](for_all, "lerning_rate")


@pytest.mark.parametrize("tool", ["sweep", "halving"])
def test_what_acts_through_init_alone_can_be_swept(tool):
    with pytest.raises(WasAcceptedError):
        TOOLS[tool](line_trial(injected), RATE)


def test_a_population_without_exchanges_may_vary_what_init_reads():
    with pytest.raises(WasAcceptedError):
        adaptax.population_based_training(
            line_trial(injected), rates(RATE), interval=10, **BRIEF
        )


def test_constants_need_not_act():
    space = {RATE: grid([0.1, 0.01]), "note": 7.0, "mark": grid([1.0])}
    with pytest.raises(WasAcceptedError):
        adaptax.sweep(line_trial(), space, **BRIEF)


def network(optimizer=None, loss=None, **options):
    """A trial whose hyperparameters `optimizer(hparams)` and the loss read."""

    def squares(w, state, batch, key):
        del key
        return jnp.mean((batch @ w) ** 2), state

    def init_params(key):
        return jax.random.normal(key, (3,)), jnp.zeros(())

    return adaptax.trial(
        init_params,
        loss or squares,
        optimizer or (lambda hparams: adaptax.adam(hparams[RATE])),
        jnp.ones((4, 3)),
        2,
        has_state=True,
        has_key=True,
        **options,
    )


def hand_written(read):
    """A trial whose advance reads the hyperparameters with `read(hparams, w)`."""

    def advance(hparams, w, num_steps):
        w = w - 0.1 * read(hparams, w)
        return w, jnp.full(num_steps, jnp.sum(w**2))

    return adaptax.Trial(lambda hparams, key: jnp.ones(3), advance)


HELD_OUT = {"evaluate": lambda w, state, data: jnp.mean((data @ w) ** 2)}
ACT_LATE = {  # or where a look at the first steps would see nothing
    "b1": lambda h: adaptax.adam(0.1, b1=h["b1"]),
    "b2": lambda h: optax.adam(0.1, b2=h["b2"]),
    "eps": lambda h: adaptax.adam(0.1, eps=h["eps"]),
    "weight_decay": lambda h: optax.adamw(0.1, weight_decay=h["weight_decay"]),
    "masked decay": lambda h: optax.adamw(
        0.1, weight_decay=h["masked decay"], mask=lambda params: True
    ),
    "after a warm-up": lambda h: adaptax.adam(
        adaptax.warmup(adaptax.constant(h["after a warm-up"]), 100)
    ),
    "peak": lambda h: adaptax.adam(adaptax.cosine(h["peak"], 100, warmup_steps=10)),
    "total_steps": lambda h: adaptax.adam(adaptax.cosine(0.1, h["total_steps"])),
    "end": lambda h: optax.sgd(optax.linear_schedule(0.1, h["end"], 1000)),
    "plateau": lambda h: adaptax.adam(
        [0.1, adaptax.reduce_on_plateau(factor=h["plateau"])]
    ),
    "every": lambda h: adaptax.accumulate(adaptax.adam(h["every"]), 4),
    "clip": lambda h: optax.chain(optax.clip(h["clip"]), optax.sgd(0.1)),
    "switch": lambda h: adaptax.gradient_descent(
        jnp.where(h["switch"] > 0.5, 0.1, 0.01)
    ),
}


@pytest.mark.parametrize("name", ACT_LATE)
def test_what_acts_late_or_rarely_acts(name):
    hparams = {name: np.float32([0.5])}
    trial = network(ACT_LATE[name])
    with jax.numpy_dtype_promotion("standard"):  # for Optax
        require_acting(trial, hparams, [name], jax.random.key(0), within_run=True)


def test_the_decay_of_an_average_acts_where_the_average_is_evaluated():
    def optimizer(hparams):
        return adaptax.iterate_average(adaptax.adam(0.1), hparams["decay"])

    hparams, key = {"decay": np.float32([0.5])}, jax.random.key(0)
    judged = network(optimizer, **HELD_OUT, eval_data=jnp.ones((4, 3)))
    require_acting(judged, hparams, ["decay"], key, within_run=True)
    with pytest.raises(ValueError, match="no loss and no evaluation"):
        require_acting(network(optimizer), hparams, ["decay"], key)


READ = {
    "dropout": lambda h, w: w * jax.random.bernoulli(jax.random.key(0), h["dropout"]),
    "label smoothing": lambda h, w: jax.grad(
        lambda w: jnp.sum((w - 1 + h["label smoothing"]) ** 2)
    )(w),
    "batch": lambda h, w: jnp.where(jnp.arange(3) < h["batch"], w, 0),
    "whole number": lambda h, w: w * (h["whole number"].astype(jnp.int32) % 2),
    "in a jitted function": lambda h, w: jax.jit(lambda rate: rate * w)(
        h["in a jitted function"]
    ),
    "called back": lambda h, w: (
        jax.pure_callback(
            np.asarray,
            jax.ShapeDtypeStruct((), jnp.float32),
            h["called back"],
        )
        * w
    ),
}


@pytest.mark.parametrize("name", READ)
def test_hand_written_trials_may_read_hyperparameters_in_any_way(name):
    hparams = {name: np.float32([0.5])}
    trial = hand_written(READ[name])
    with jax.numpy_dtype_promotion("standard"):
        require_acting(trial, hparams, [name], jax.random.key(0), within_run=True)


def test_what_a_program_computes_and_drops_does_not_act():
    def read(hparams, w):
        unused = jax.jit(lambda rate, w: (rate * w, w))(hparams[RATE], w)
        return unused[1]

    with pytest.raises(ValueError, match="no loss"):
        require_acting(
            hand_written(read), {RATE: np.float32([0.5])}, [RATE], jax.random.key(0)
        )


def test_nested_hyperparameters_are_named_by_their_paths():
    trial = network(
        lambda h: adaptax.adam(h["adam"]["rate"], b1=h["adam"].get("b1", 0))
    )
    space = {"adam": {"rate": np.float32([0.1]), "beta": np.float32([0.9])}}
    with pytest.raises(ValueError, match=re.escape("there are 'adam/beta', 'adam/rat")):
        require_acting(trial, space, ["adam/beta"], jax.random.key(0))
    with pytest.raises(KeyError, match="'rate', and there are only 'adam/beta'"):
        require_acting(
            trial, {"adam": {"beta": np.float32([0.9])}}, [], jax.random.key(0)
        )


def test_a_key_error_that_is_not_about_hyperparameters_stays_as_it_is():
    def loss(w, state, batch, key):
        del key
        return {"images": jnp.sum(w)}["labels"], state

    with pytest.raises(KeyError, match=r"^'labels'(?!, and)"):
        adaptax.sweep(network(loss=loss), {RATE: grid([0.1, 0.2])}, **BRIEF)


def test_only_what_has_several_values_differs():
    hparams = {"a": np.array([1, 1]), "b": {"c": np.array([[1, 2]])}}
    assert differing(hparams) == ["b/c"]


def needing(what):
    """Make a trial by hand that needs a value, of what is named."""

    def value(name, array):
        return int(array) if name == what else 1.0

    def init(hparams, key):
        return {"w": jnp.ones(2), "n": 3, "h": value("rate in init", hparams["rate"])}

    def advance(hparams, state, num_steps):
        def step(state, _):
            factor = value("rate", hparams["rate"]) * value("n", state["n"])
            loss = jnp.sum(state["w"]) * hparams["rate"] * value("w", state["w"][0])
            return state, factor * loss * hparams["other"]

        return jax.lax.scan(step, jax.tree.map(jnp.asarray, state), length=num_steps)

    return adaptax.Trial(init, advance)


@pytest.mark.parametrize("what", ["rate", "rate in init", "n", "w"])
def test_whose_value_a_trial_needs_is_said(what):
    space = {"rate": jnp.ones(2), "other": jnp.ones(2)}
    with pytest.raises(ValueError, match="the trial needs the value of") as refused:
        require_acting(needing(what), space, ["rate"], jax.random.key(0))
    message = str(refused.value)
    is_hyperparameter = what.startswith("rate")
    assert ("of the hyperparameter 'rate', but" in message) == is_hyperparameter
    assert "'other'" not in message
    assert (f"['{what}']" in message) != is_hyperparameter


def test_a_function_in_the_state_is_refused_by_path():
    trial = adaptax.Trial(
        lambda hparams, key: {"w": jnp.ones(()), "act": jnp.tanh},
        lambda hparams, state, num_steps: (state, hparams["rate"] * jnp.ones(1)),
    )
    with pytest.raises(TypeError, match=r"at \['act'\] of the state"):
        require_acting(trial, {"rate": jnp.ones(2)}, ["rate"], jax.random.key(0))
