"""The large tasks are of the documented size, sane, and the same on every call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptax.bench.shared.tasks import TASKS
from adaptax.bench.tuning.large_tasks import BYTES_BIG, LARGE_TASKS, maze
from adaptax.bench.tuning.large_tasks.python_text import python_text, windows
from adaptax.bench.tuning.large_tasks.shifted_digits import digit_losses

KEY = jax.random.key(0)
TEXTS = ("bytes_transformer", "bytes_gru")
"""Of which whole files are in one split only; but phrases recur."""


@pytest.fixture(params=LARGE_TASKS.values(), ids=LARGE_TASKS, scope="module")
def task(request):
    return request.param


@pytest.fixture(scope="module")
def problem(task):
    return task.problem()


def size_of(task):
    shapes = jax.eval_shape(task.init, KEY)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def first(examples, size):
    return {name: array[:size] for name, array in examples.items()}


def filled(task):
    """Parameters without the long compilation of `init`."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: generator.normal(0, 0.05, leaf.shape).astype(leaf.dtype),
        jax.eval_shape(task.init, KEY),
    )


def compiled(function, *arguments):
    """Compile quickly to a slow program."""
    options = {"xla_backend_optimization_level": 0}
    with jax.numpy_dtype_promotion("standard"):
        return jax.jit(function).lower(*arguments).compile(options)


def examples_of(split):
    """The set of the examples, each as bytes; fails if a name lacks some."""
    arrays = [split[name] for name in sorted(split)]
    return {
        b"".join(row.tobytes() for row in rows) for rows in zip(*arrays, strict=True)
    }


def test_half_of_the_tasks_is_for_the_design_and_all_have_names_of_their_own():
    halves = [task.half for task in LARGE_TASKS.values()]
    assert sorted(halves) == 4 * ["design"] + 4 * ["frozen"]
    assert not set(TASKS) & set(LARGE_TASKS)
    assert BYTES_BIG.name not in LARGE_TASKS


def test_size_and_horizon_are_in_the_range_of_the_protocol(task):
    assert 100_000 <= size_of(task) <= 250_000
    assert 1500 <= task.steps <= 2500
    assert list(task._replace(problem=lambda: None).variants()) == ["plain"]


def test_examples_are_the_same_every_time_and_in_one_split_only(task, problem):
    again = task.problem()
    assert again.batch_size == problem.batch_size
    jax.tree.map(np.testing.assert_array_equal, problem[:3], again[:3])
    train, validation, test = (examples_of(split) for split in problem[:3])
    if task.name not in TEXTS:
        assert not train & validation
        assert not train & test
    assert not validation & test
    kinds = [
        {name: (array.shape[1:], array.dtype) for name, array in split.items()}
        for split in problem[:3]
    ]
    assert kinds[0] == kinds[1] == kinds[2]


def test_a_step_downhill_lowers_the_loss_and_the_key_decides_all(task, problem):
    batch = first(problem.train, 4)
    params = filled(task)
    step = compiled(jax.value_and_grad(task.loss), params, batch, KEY)
    loss, gradients = jax.device_get(step(params, batch, KEY))
    assert loss.dtype == np.float32
    assert step(params, batch, KEY)[0] == loss
    size = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradients)))
    moved = jax.tree.map(
        lambda w, g: w - np.float32(1e-2 / size) * g, params, gradients
    )
    after = step(moved, batch, KEY)[0]
    if task.name == "policy_gradient":  # whose episodes change with the parameters
        assert after != loss
    else:
        assert after < loss


def test_the_loss_of_digits_in_parts_is_the_loss():
    def network(params, images):
        return images.reshape(len(images), -1) @ params

    params = np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)
    examples = first(LARGE_TASKS["vit"].problem().validation, 50)
    with jax.numpy_dtype_promotion("standard"):
        whole, parts = (f(params, examples, KEY) for f in digit_losses(network))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_tasks_without_a_measure_of_their_own_report_the_loss(task):
    own = {"resnet", "vit", "policy_gradient"}
    assert (task.measured is not None) == (task.name in own)


def test_the_accelerator_task_has_its_size_and_float32_gradients():
    assert 10_000_000 <= size_of(BYTES_BIG) <= 30_000_000
    params = jax.eval_shape(BYTES_BIG.init, KEY)
    batch = {"bytes": jax.ShapeDtypeStruct((32, 257), jnp.uint8)}
    with jax.numpy_dtype_promotion("standard"):
        loss, gradients = jax.eval_shape(
            jax.value_and_grad(BYTES_BIG.loss), params, batch, KEY
        )
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_the_expected_return_is_that_of_going_forward_by_hand():
    generator = np.random.default_rng(0)
    policy = generator.dirichlet(np.ones(maze.ACTIONS), maze.CELLS).astype(np.float32)
    goal, start = 22, 0
    slippery = 0.9 * policy + 0.1 / 4
    there, expected = np.eye(maze.CELLS)[start], 0.0
    for step in range(1, maze.STEPS + 1):
        after = np.zeros(maze.CELLS)
        np.add.at(after, maze.DESTINATIONS, there[:, None] * slippery)
        expected += 0.95**step * after[goal]
        there = after * (np.arange(maze.CELLS) != goal)
    with jax.numpy_dtype_promotion("standard"):
        returns = jax.jit(maze.expected_returns)(policy, goal)
        best = jax.jit(maze.best_returns)(goal)
    assert returns[start] == pytest.approx(expected, rel=1e-4)
    assert returns[goal] == best[goal] == 1
    assert np.all(best >= returns)
    # The way takes six steps, and sometimes a slip delays it.
    assert 0.8 * 0.95**6 < best[start] < 0.95**6


def test_regret_is_positive_and_0_only_for_the_best_policy():
    task = LARGE_TASKS["policy_gradient"]
    problem = task.problem()
    params = filled(task)
    regret = compiled(task.measure, params, problem.test, KEY)
    assert 0.4 < regret(params, problem.test, KEY) < 0.7
    starts = sum(split["starts"] for split in problem[:3])
    rows = np.arange(len(starts))
    assert np.all(starts[rows, problem.train["goal"]] == 0)
    np.testing.assert_array_equal(np.unique(starts), [0, 1])
    np.testing.assert_array_equal(starts.sum(1), maze.FREE.sum() - 1)


def write_sources(folder, files=100):
    """Write modules of which every line names the module."""
    for index in range(files):
        line = f"module {index:03} \xe9\r\n".encode()
        (folder / f"module_{index}.py").write_bytes(3 * line)


def test_a_file_of_the_library_is_in_one_text_only_and_tests_are_in_none(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "adaptax.bench.tuning.large_tasks.python_text.LEAST_BYTES", {"train": 1}
    )
    write_sources(tmp_path)
    for left_out in ("test", "site-packages", "config-3"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "other.py").write_bytes(b"other\n")
    text = python_text(str(tmp_path))
    lines = [set(split.tobytes().split(b"\n")) - {b""} for split in text]
    every = [f"module {index:03} ".encode() + b"\x7f\x7f" for index in range(100)]
    assert sorted(line for split in lines for line in split) == every
    assert all(len(split) > 1 for split in lines)


def test_a_library_without_sources_is_refused_with_a_remedy(tmp_path):
    write_sources(tmp_path, files=3)
    with pytest.raises(FileNotFoundError, match=r"only \d+ bytes .* with its sources"):
        python_text(str(tmp_path))


def test_windows_do_not_overlap_and_reach_over_the_whole_text():
    text = np.arange(100, dtype=np.uint8)
    np.testing.assert_array_equal(windows(text, 30), text[:90].reshape(3, 30))
    np.testing.assert_array_equal(windows(text, 10, 4)[:, 0], [0, 30, 60, 90])
