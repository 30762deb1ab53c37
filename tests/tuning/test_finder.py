"""The finder: rates, losses, seeds, plans, statuses, saving and taking up again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interruptions import check_resuming, save_always
from lines import line_trial

import adaptax
from adaptax.tuning.analysis.range_tests import STATUSES, SUGGESTIONS, read

STEPS = 60


@pytest.fixture(scope="module")
def found():
    return run()


def run(trial=None, **options):
    options = {"low": 1e-5, "seeds": 3, "strategy": "map", **options}
    return adaptax.find_learning_rate(
        trial or line_trial(optax.sgd), num_steps=STEPS, progress=False, **options
    )


def test_rates_grow_by_equal_factors_or_by_equal_amounts(found):
    rates = found.learning_rates
    assert (rates[0], rates[-1]) == (np.float32(1e-5), np.float32(10))
    np.testing.assert_allclose(rates[1:] / rates[:-1], 1e6 ** (1 / 59), rtol=1e-5)
    linear = run(mode="linear", high=0.5, seeds=1)
    assert linear.learning_rates[-1] == np.float32(0.5)
    steps = np.diff(linear.learning_rates)
    np.testing.assert_allclose(steps, (0.5 - 1e-5) / 59, rtol=1e-4)


def test_each_seed_equals_the_trial_run_by_hand(found):
    trial = line_trial(optax.sgd)
    advance = jax.jit(lambda hparams, state: trial.advance(hparams, state, 1))
    for seed in range(3):
        key = jax.random.fold_in(jax.random.key(0), seed)
        state, losses = trial.init({"learning_rate": 1e-5}, key), []
        for rate in found.learning_rates[:45]:
            state, loss = advance({"learning_rate": rate}, state)
            losses.append(float(loss[0]))
        np.testing.assert_allclose(found.losses[seed, :45], losses, rtol=1e-4)


def test_a_line_is_found_a_rate_that_trains_it(found):
    assert found.status == "ok"
    assert found.suggestion == found.suggestions["valley"]
    assert None not in found.suggestions.values()
    for name in SUGGESTIONS:
        low, high = found.spread[name]
        assert low * 0.999 <= found.suggestions[name] <= high * 1.001
    rates = [found.suggestion, found.suggestion / 10, found.suggestion * 10]
    swept = adaptax.sweep(
        line_trial(optax.sgd),
        {"learning_rate": adaptax.spaces.grid(rates)},
        num_steps=80,
        seeds=3,
        strategy="map",
        progress=False,
    )
    assert swept.ranking[0] == 0


def test_every_seed_is_read_by_itself(found):
    smoothing = 1 - 20 / STEPS
    each = [read(found.learning_rates, x, smoothing, 4.0) for x in found.losses]
    expected = np.stack([one.smoothed for one in each])
    np.testing.assert_array_equal(found.smoothed, expected)
    valleys = [one.suggestions["valley"] for one in each]
    middle = np.exp(np.median(np.log([rate for rate in valleys if rate is not None])))
    assert found.suggestion == pytest.approx(middle)


def test_smoothing_and_divergence_change_the_reading_alone(found):
    other = run(smoothing=0.95, divergence=1.5)
    np.testing.assert_array_equal(other.losses, found.losses)
    expected = read(found.learning_rates, found.losses[0], 0.95, 1.5)
    np.testing.assert_array_equal(other.smoothed[0], expected.smoothed)


def test_twice_gives_the_same_to_the_last_bit(found):
    again = run()
    np.testing.assert_array_equal(again.losses, found.losses)
    assert again.suggestions == found.suggestions


@pytest.mark.parametrize("strategy", ["vmap", 2, "auto"])
def test_results_do_not_depend_on_the_strategy_beyond_rounding(found, strategy):
    other = run(strategy=strategy)
    np.testing.assert_allclose(other.smoothed, found.smoothed, rtol=1e-4)
    assert other.suggestions == pytest.approx(found.suggestions)


def test_a_mesh_of_8_devices_gives_the_same(found):
    spread = run(mesh=jax.make_mesh((8,), ("members",)))
    np.testing.assert_allclose(spread.smoothed, found.smoothed, rtol=1e-4)


def test_one_compilation_serves_all_seeds(found):
    assert found.about["compilations"] == 1
    assert found.about["member_steps"] == 3 * STEPS


def test_a_model_with_state_is_left_as_it_was():
    def loss(w, seen, batch):
        return jnp.mean((batch - w) ** 2), seen + 1

    trial = adaptax.trial(
        lambda key: (jnp.zeros(()), jnp.zeros(())),
        loss,
        lambda hparams: adaptax.adam(hparams["learning_rate"]),
        jnp.linspace(2.0, 3.0, 16),
        has_state=True,
    )
    hparams = {"learning_rate": 0.1}
    before = trial.init(hparams, jax.random.key(0))
    first, second = run(trial, seeds=1), run(trial, seeds=1)
    after = trial.init(hparams, jax.random.key(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b), before.params, after.params
    )
    assert before.model_state == after.model_state == 0
    np.testing.assert_array_equal(first.losses, second.losses)
    assert first.status == "ok"


def test_the_other_hyperparameters_and_the_name_are_as_given():
    plain = line_trial()

    def with_factor(hparams):
        return {"learning_rate": hparams["rate"] * hparams["inner"]["factor"]}

    trial = adaptax.Trial(
        lambda hparams, key, shared=None: plain.init(with_factor(hparams), key, shared),
        lambda hparams, state, n, shared=None: plain.advance(
            with_factor(hparams), state, n, shared
        ),
        None,
        plain.data,
    )
    plainly = run(plain, low=1e-4, high=1.0)
    scaled = run(
        trial, low=1e-5, high=0.1, name="rate", hparams={"inner": {"factor": 10.0}}
    )
    assert scaled.suggestion == pytest.approx(plainly.suggestion / 10, rel=0.01)
    assert scaled.about["name"] == "rate"


def given_losses(losses):
    """Make a trial whose losses are given; the rate is seen to act, and adds 0."""
    losses = jnp.asarray(losses, jnp.float32)

    def advance(hparams, step, n):
        del n
        return step + 1, (losses[step] + 0 * hparams["learning_rate"])[None]

    return adaptax.Trial(lambda hparams, key: jnp.zeros((), jnp.int32), advance)


STEP = np.arange(STEPS)
CURVES = {
    "flat": 2 + 0.1 * np.random.default_rng(0).normal(size=STEPS),
    "diverged at once": np.where(STEP == 0, 1.0, np.nan),
    "never diverged": 3 - np.clip(STEP - 20, 0, None) / 20,
    "not finite": np.full(STEPS, np.nan),
}


@pytest.mark.parametrize("status", CURVES)
def test_a_test_that_finds_nothing_says_why_in_a_sentence(status):
    found = run(given_losses(CURVES[status]), seeds=2)
    assert found.status == status
    assert found.message.endswith(".")
    remedies = {
        "flat": "learning_rate",
        "diverged at once": "lower low",
        "never diverged": "raise high",
        "not finite": "check the data",
    }
    assert remedies[status] in found.message
    if status != "never diverged":
        assert found.suggestion is None
        assert set(found.spread.values()) == {None}


def test_every_status_has_a_message(found):
    for status in STATUSES:
        values = {**vars(found), "status": status}
        assert adaptax.FinderResult(**values).message


@pytest.mark.parametrize("name", ["line", "never diverged", "not finite"])
def test_a_saved_result_is_loaded_whole(found, name, tmp_path):
    saved = found if name == "line" else run(given_losses(CURVES[name]), seeds=1)
    saved.save(tmp_path / "finder.npz")
    loaded = adaptax.FinderResult.load(tmp_path / "finder.npz")
    for array in ("learning_rates", "losses", "smoothed"):
        np.testing.assert_array_equal(getattr(loaded, array), getattr(saved, array))
    assert loaded.suggestions == saved.suggestions
    assert loaded.spread == saved.spread
    assert loaded.message == saved.message
    assert loaded.about == saved.about


@pytest.mark.parametrize("calls", [1, 2])
def test_an_interrupted_test_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    resumed = check_resuming(run, calls, monkeypatch, tmp_path)
    np.testing.assert_array_equal(resumed.losses, found.losses)
    assert resumed.suggestions == found.suggestions


def test_a_checkpoint_of_another_test_is_refused(monkeypatch, tmp_path):
    save_always(monkeypatch)
    trial = given_losses(CURVES["flat"])
    run(trial, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="rates"):
        run(trial, checkpoint=tmp_path, low=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"low": 1.0, "high": 1.0}, ValueError, "low must be < high"),
        ({"low": 2.0, "high": 1.0}, ValueError, "low must be < high"),
        ({"low": 0.0}, ValueError, "low"),
        ({"low": -1e-3}, ValueError, "low"),
        ({"low": float("nan")}, ValueError, "low"),
        ({"low": "1e-3"}, TypeError, "low"),
        ({"low": True}, TypeError, "low"),
        ({"low": 1e-320}, ValueError, "low"),
        ({"high": float("inf")}, ValueError, "high"),
        ({"high": 1e60}, ValueError, "high"),
        ({"num_steps": 0}, ValueError, "num_steps must be >= 10"),
        ({"num_steps": 1}, ValueError, "num_steps must be >= 10"),
        ({"num_steps": 20.0}, TypeError, "num_steps"),
        ({"seeds": 0}, ValueError, "seeds"),
        ({"mode": "cosine"}, ValueError, "mode"),
        ({"smoothing": 1.0}, ValueError, "smoothing"),
        ({"smoothing": -0.1}, ValueError, "smoothing"),
        ({"divergence": 1.0}, ValueError, "divergence"),
        ({"divergence": float("nan")}, ValueError, "divergence"),
        ({"hparams": {"learning_rate": 0.1}}, ValueError, "learning_rate"),
        ({"hparams": {"b": [1.0, 2.0]}}, ValueError, "constants"),
        ({"hparams": {"b": float("nan")}}, ValueError, "b"),
        ({"strategy": "pmap"}, ValueError, "strategy"),
        ({"key": "a"}, TypeError, "key"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        adaptax.find_learning_rate(line_trial(), progress=False, **options)
