"""Every task of the tuning benchmark can be learnt, and its variant is another one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.bench.shared.tasks import TASKS
from adaptax.bench.shared.tasks.grammar import ALPHABET, write_text
from adaptax.bench.shared.tasks.mnist1d import mnist1d

RATES = {
    "logistic": 0.1,
    "factorization": 0.1,
    "quadratic": 0.3,
}
PARAMETERS = {
    "logistic": 410,
    "mlp": 5034,
    "convolution": 3818,
    "gru": 1370,
    "transformer": 2911,
    "autoencoder": 4616,
    "factorization": 600,
    "quadratic": 100,
}
EXPECTATIONS = {"quadratic"}
"""Whose validation and test are one exact expectation, which needs no sample."""


@pytest.fixture(params=TASKS.values(), ids=TASKS, scope="module")
def task(request):
    return request.param


@pytest.fixture(scope="module")
def variants(task):
    return task.variants()


def make_train(task, problem, steps):
    """Compile (first loss, last loss) of a short run as a function of the key."""
    optimizer = adaptax.adamw(RATES.get(task.name, 0.02))

    def train(key, train, validation):
        params = task.init(key)
        size = len(jax.tree.leaves(train)[0])

        def step(carry, index):
            params, state = carry
            draw = jax.random.fold_in(key, index)
            rows = jax.random.randint(draw, (problem.batch_size,), 0, size)
            batch = {name: array[rows] for name, array in train.items()}
            gradients = jax.grad(task.loss)(params, batch, draw)
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        first = task.loss(params, validation, key)
        carry = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, carry, jnp.arange(steps))
        return first, task.loss(params, validation, key)

    return jax.jit(train)


def test_loss_falls_under_adamw_and_the_key_decides_all(task, variants):
    with jax.numpy_dtype_promotion("standard"):
        problem = variants["plain"]
        train = make_train(task, problem, 60)
        first, last = train(jax.random.key(0), problem.train, problem.validation)
        again = train(jax.random.key(0), problem.train, problem.validation)
        other = train(jax.random.key(1), problem.train, problem.validation)
    assert last < 0.9 * first
    assert (first, last) == again
    assert last != other[1]


def test_lanes_of_a_vmap_are_the_single_runs(task, variants):
    """One compiler of processors was wrong from the 33rd lane on."""
    batch = variants["plain"].validation
    keys = jax.random.split(jax.random.key(0), 36)

    def evaluate(key):
        return jax.value_and_grad(task.loss)(task.init(key), batch, key)

    with jax.numpy_dtype_promotion("standard"):
        lanes = jax.jit(jax.vmap(evaluate))(keys)
        single = jax.jit(lambda keys: jax.lax.map(evaluate, keys))(keys[::5])
    jax.tree.map(
        lambda lane, one: np.testing.assert_allclose(
            lane[::5], one, rtol=1e-4, atol=1e-5
        ),
        lanes,
        single,
    )


def test_held_out_variant_is_another_problem_of_the_same_shapes(task, variants):
    plain, held_out = variants["plain"], variants[task.variant]
    if task.variant == "small batch":
        assert held_out.batch_size == plain.batch_size // 4
        return
    assert held_out.batch_size == plain.batch_size
    shapes = [
        {name: (array.shape, array.dtype) for name, array in one.train.items()}
        for one in (plain, held_out)
    ]
    assert shapes[0] == shapes[1]
    changed = [
        name
        for name in plain.train
        if not np.array_equal(plain.train[name], held_out.train[name])
    ]
    assert changed == (["labels"] if task.variant == "label noise" else ["inputs"])
    if task.variant == "label noise":
        share = np.mean(plain.train["labels"] != held_out.train["labels"])
        assert 0.12 < share < 0.2
    for split, same in [("validation", plain.validation), ("test", plain.test)]:
        changed = getattr(held_out, split)
        if task.variant == "label noise":
            np.testing.assert_array_equal(changed["labels"], same["labels"])
        else:
            np.testing.assert_array_equal(changed["inputs"], 100 * same["inputs"])


def test_problem_is_the_same_every_time(task, variants):
    again = task.problem()
    for name, array in variants["plain"].train.items():
        np.testing.assert_array_equal(array, again.train[name])
        np.testing.assert_array_equal(
            variants["plain"].test[name], again.test[name], strict=True
        )


def test_train_validation_and_test_have_no_example_in_common(task, variants):
    splits = variants["plain"][:3]
    assert len({frozenset(split) for split in splits}) == 1
    if task.name in EXPECTATIONS:
        return
    rows = [examples_of(split) for split in splits]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]
    assert min(map(len, rows)) >= 60


def examples_of(split):
    """The set of the examples, each as bytes; fails if a name lacks some."""
    arrays = [split[name] for name in sorted(split)]
    return {
        b"".join(row.tobytes() for row in rows) for rows in zip(*arrays, strict=True)
    }


def test_what_is_reported_is_the_loss_unless_a_task_says_otherwise(task):
    def norm(params, examples, key):
        return jnp.float32(len(params) + len(examples))

    key = jax.random.key(0)
    shorter = task._replace(measured=norm, vary=None, variant=None)
    assert shorter.measure({"a": 0}, {"b": 1, "c": 2}, key) == 3
    assert task._replace(loss=norm).measure({"a": 0}, {}, key) == 1
    assert list(shorter._replace(problem=lambda: None).variants()) == ["plain"]


def test_the_documented_numbers_of_parameters_are_true(task):
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == PARAMETERS[task.name]


def test_mnist1d_is_balanced_standardized_and_tells_its_digits_apart():
    signals, labels = mnist1d(500)
    assert signals.shape == (500, 40)
    np.testing.assert_array_equal(np.bincount(labels), 50)
    assert signals.mean() == pytest.approx(0, abs=1e-5)
    assert signals.std() == pytest.approx(1, abs=1e-5)
    again, _ = mnist1d(500)
    np.testing.assert_array_equal(signals, again)
    assert not np.array_equal(signals, mnist1d(500, seed=1)[0])


def test_text_is_of_the_grammar():
    text = "".join(ALPHABET[index] for index in write_text(3000))
    whole = text[: text.rindex(";")]
    variables = dict.fromkeys("abcd", 0)
    for statement in whole.split(";"):
        name, formula = statement.split("=")
        assert name in variables
        assert isinstance(eval(formula, {"__builtins__": {}}, variables), int)
    assert "((" in whole
