"""A checkpoint belongs to its trial and its configuration; another is refused."""

import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.spaces import log_grid, log_uniform
from adaptax.tuning.running.programs import Programs
from adaptax.tuning.storage import digests, result_files
from adaptax.tuning.storage.named_arrays import to_arrays

DATA = np.linspace(1, 2, 24, dtype=np.float32).reshape(8, 3)
OPTIONS = {"strategy": "map", "progress": False}
SPACE = {"learning_rate": log_grid(1e-3, 0.1, 4)}


def squares(w, batch):
    return jnp.mean(batch @ w**2)


def made(optimizer=adaptax.adam, loss=squares, data=DATA, batch_size=4, **options):
    """Make the trial that all differ from."""
    return adaptax.trial(
        lambda key: jax.random.normal(key, (3,), jnp.float32),
        loss,
        lambda hparams: optimizer(hparams["learning_rate"]),
        data,
        batch_size,
        **options,
    )


def once_or_twice(history):
    rates = {"learning_rate": np.float32([0.01, 0.1])}
    parents, seeds = (np.arange(2), None) if history else (None, np.arange(2))
    return adaptax.tuning.Round(5, parents, rates, seeds) if len(history) < 2 else None


TOOLS = {
    "finder": partial(adaptax.find_learning_rate, num_steps=10),
    "sweep": partial(adaptax.sweep, space=SPACE, num_steps=10),
    "halving": partial(adaptax.successive_halving, space=SPACE, num_steps=10),
    "stopping": partial(adaptax.median_stopping, space=SPACE, num_steps=9, interval=4),
    "population": partial(
        adaptax.population_based_training,
        space={"learning_rate": log_uniform(1e-3, 0.1)},
        num_steps=10,
        interval=5,
        members=4,
    ),
    "branch": partial(adaptax.branch, space=SPACE, stages=2, stage_steps=5),
    "rule": partial(adaptax.tuning.play_rule, rule=once_or_twice, num_steps=10),
    "search": partial(
        adaptax.search_schedule,
        num_steps=10,
        knots=2,
        population=4,
        generations=2,
        fresh_seeds=2,
    ),
}


def doubled(w, batch):
    return 2 * squares(w, batch)


def judged(w, batch):
    return squares(w, batch), {"norm": jnp.linalg.norm(w)}


DIFFERENCES = {
    "optimizer": ({"optimizer": adaptax.gradient_descent}, r"programs.*state\["),
    "Optax's optimizer": ({"optimizer": optax.adam}, r"programs.*state\["),
    "eps": ({"optimizer": partial(adaptax.adam, eps=1e-3)}, "programs.advance = 'SHA"),
    "loss": ({"loss": doubled}, "programs.advance = 'SHA"),
    "data": ({"data": DATA + np.eye(8, 3, dtype=np.float32)}, "data.*, SHA-256"),
    "batch size": ({"batch_size": 2}, "programs.advance"),
    "batches": ({"batches": "shared"}, "programs.advance"),
    "evaluation": ({"evaluate": judged, "eval_data": DATA}, "programs.evaluate = None"),
}


@pytest.fixture(scope="module", params=TOOLS)
def ran(request, tmp_path_factory):
    """Run a tool once; give a function that runs it in its folder, and the result."""
    folder = tmp_path_factory.mktemp(request.param)
    run = partial(TOOLS[request.param], checkpoint=folder, **OPTIONS)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return run, run(made())


@pytest.fixture
def tool(ran):
    return ran[0]


def refused(run, trial, words, **options):
    with pytest.raises(ValueError, match=words) as raised:
        run(trial, **options)
    assert "has checkpoints of another run" in str(raised.value)
    assert "another folder" in str(raised.value)


def test_a_finished_folder_gives_its_result_at_once_and_compiles_nothing(ran):
    run, first = ran
    compiled = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = run(made())
        assert compiled == []
        jax.jit(lambda x: x + len(compiled))(1.0)
        assert compiled != []  # it does listen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert type(again) is type(first)
    assert (again.about["compilations"], again.about["resumed"]) == (0, True)
    chex.assert_trees_all_equal(again.contents()[0], first.contents()[0])
    for name in {"hparams", "state"} & vars(first).keys():
        there, here = getattr(first, name), getattr(again, name)
        assert jax.tree.structure(here) == jax.tree.structure(there)
        chex.assert_trees_all_equal(to_arrays(here), to_arrays(there))


def test_a_record_with_a_missing_or_a_shorter_array_is_refused_by_name(ran, tmp_path):
    _, result = ran
    arrays, about = result.contents()
    path, kind = tmp_path / "result.npz", type(result)
    result.save(path)
    kind.load(path)
    for name in kind.AXES:
        if name.endswith("/"):
            continue
        others = {key: array for key, array in arrays.items() if key != name}
        result_files.save_arrays(path, kind.KIND, others, about)
        with pytest.raises(ValueError, match=f"has no array {name!r}"):
            kind.load(path)
        deeper = {**arrays, name: np.asarray(arrays[name])[None]}
        result_files.save_arrays(path, kind.KIND, deeper, about)
        with pytest.raises(ValueError, match=f"{name!r} in .* must have the axes"):
            kind.load(path)
    shorter = {**arrays, "losses": arrays["losses"][..., :-1]}
    if kind is adaptax.FinderResult:
        result_files.save_arrays(path, kind.KIND, shorter, about)
        with pytest.raises(ValueError, match=r"'losses' in .* along the axis 'steps'"):
            kind.load(path)
    if "scores" in arrays:
        fewer = {**arrays, "scores": arrays["scores"][:-1]}
        result_files.save_arrays(path, kind.KIND, fewer, about)
        with pytest.raises(ValueError, match="along the axis"):
            kind.load(path)


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_another_trial_is_refused_by_what_differs(tool, difference):
    changes, words = DIFFERENCES[difference]
    with jax.numpy_dtype_promotion("standard"):  # Optax promotes
        refused(tool, made(**changes), words)


def test_a_folder_without_a_name_is_refused(tool):
    with pytest.raises(ValueError, match="checkpoint must be the path of a folder"):
        tool(made(), checkpoint="")


def test_a_file_in_the_place_of_the_folder_is_named(tool, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file cannot hold checkpoints.*Use a folder"):
        tool(made(), checkpoint=tmp_path / "file")


def test_another_key_is_refused_with_both(tool):
    refused(
        tool,
        made(),
        r"key = 'threefry2x32 uint32\[2\] 0, 0' there .* 0, 7' here",
        key=7,
    )


def test_another_precision_is_refused(tool):
    with jax.enable_x64(True):
        refused(tool, made(), "configuration.jax_enable_x64 = 'False' there and 'True'")
    with jax.default_matmul_precision("float32"):
        refused(tool, made(), "configuration.jax_default_matmul_precision = 'None'")


def test_another_version_is_refused(tool, monkeypatch):
    monkeypatch.setattr(digests, "_version", lambda name: "1.0")
    refused(tool, made(), "versions.jax = '.*' there and '1.0' here")


def parts(trial, **hparams):
    """Describe a run of a trial."""
    members = hparams or {"learning_rate": np.ones(1, np.float32)}
    return digests.of_run(Programs(trial, jax.random.key(0)), members, {})


def test_arrays_that_a_trial_closes_over_are_digested_by_their_bytes():
    def closing(array):
        return made(loss=lambda w, batch: squares(w, batch) + jnp.sum(array @ w))

    array = np.ones((2000, 3), np.float32)  # NumPy's text would leave out the middle
    other = array.copy()
    other[1000, 1] = 2
    digest = parts(closing(array))["programs"]["advance"]
    assert parts(closing(array.copy()))["programs"]["advance"] == digest
    for changed in (other, jnp.asarray(other)):
        assert parts(closing(changed))["programs"]["advance"] != digest


CHILD = """
import sys, jax, jax.numpy as jnp, numpy as np
sys.path[:0] = [{path!r}]
from test_digests import made, parts, squares
class Callback:
    def __call__(self, x):
        return np.asarray(x)
def loss(w, batch):
    jax.debug.print("{{}}", w[0])
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    answer = jax.pure_callback(Callback(), shape, jax.lax.stop_gradient(w[0]))
    return squares(w, batch) + answer
print(parts(made(loss=loss))["programs"])
"""


def test_a_description_is_the_same_in_every_process(tmp_path):
    """Whatever the addresses, the seed of hashes, the folder, and the callbacks."""
    code = CHILD.format(path=str(Path(__file__).parent))
    messages = []
    for seed in ("1", "2"):
        (folder := tmp_path / seed).mkdir()
        (folder / "child.py").write_text("\n" * int(seed) + code)
        messages.append(
            subprocess.run(
                [sys.executable, folder / "child.py"],
                capture_output=True,
                text=True,
                check=True,
                timeout=600,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
        )
    assert messages[0] == messages[1]
    assert "advance" in messages[0]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(7_000_000, dtype=np.float32).reshape(1000, 7000),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(48, dtype=np.int16).reshape(4, 12)[::2, ::-3],
        np.arange(8).astype(jnp.bfloat16),
        np.ones((1, 20), bool),
        jax.random.key(3),
        jax.random.split(jax.random.key(0), 5),
        np.zeros((0, 3)),
    ],
    ids=str,
)
def test_an_array_is_described_by_type_shape_and_bytes(array):
    text = digests.described(array)
    assert digests.described(array.copy() if isinstance(array, np.ndarray) else array)
    if isinstance(array, np.ndarray) and array.size > 6:
        whole = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        assert whole[:16] in text
        for place in (0, array.size // 2, array.size - 1):
            other = array.copy()
            other.flat[place] = np.asarray(1 - other.flat[place]).astype(array.dtype)
            assert digests.described(other) != text
