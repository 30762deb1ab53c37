"""The finder in any loop: the same result for the same losses, early ends, misuse."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import adaptax
from adaptax.tuning.analysis.range_tests import agreement, is_over, read
from adaptax.tuning.running.divergence import PATIENCE

MODULE = importlib.import_module("adaptax.tuning.range_test")  # not the function
CURVATURE = np.float32([10.0, 5.0, 1.0])
STEPS = 60
STEP = np.arange(STEPS)
FALL = 3 - 2 / (1 + np.exp(-(STEP - 25) / 4))
RISE = FALL + np.exp((STEP - 45) / 2)


def fed(losses, **options):
    """Return a test that received these losses, as far as it went."""
    test = adaptax.range_test(num_steps=len(losses), **options)
    for _, loss in zip(test, losses):  # noqa: B905
        test.tell(loss)
    return test


BOWL = adaptax.trial(
    lambda key: jax.random.normal(key, (3,)),
    lambda w, batch: 0.5 * jnp.sum(batch[0] * w**2),
    lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
    CURVATURE[None],
)


@pytest.fixture(scope="module")
def found():
    return adaptax.find_learning_rate(
        BOWL, 1e-5, num_steps=STEPS, seeds=2, strategy="map", progress=False
    )


@pytest.mark.parametrize("seed", range(2))
def test_the_same_losses_give_the_same_result(found, seed):
    curve = found.losses[seed]
    alone = fed(curve, low=1e-5).result()
    expected = read(found.learning_rates, curve, 1 - 20 / STEPS, 4.0)
    np.testing.assert_array_equal(alone.learning_rates, found.learning_rates)
    np.testing.assert_array_equal(alone.smoothed[0], expected.smoothed)
    combined = agreement([expected])
    assert (alone.status, alone.suggestions) == ("ok", combined.suggestions)
    assert alone.spread == combined.spread
    kept = np.isfinite(alone.losses[0])
    assert kept.sum() < np.isfinite(curve).sum(), "it ended early"
    np.testing.assert_array_equal(alone.losses[0, kept], curve[kept])
    assert alone.about.items() <= found.about.items()


def test_a_test_without_an_early_end_has_the_whole_result():
    def advance(hparams, step, n):
        del n
        loss = jnp.asarray(FALL, jnp.float32)[step] + 0 * hparams["learning_rate"]
        return step + 1, loss[None]

    trial = adaptax.Trial(lambda hparams, key: jnp.zeros((), jnp.int32), advance)
    whole = adaptax.find_learning_rate(trial, num_steps=STEPS, progress=False)
    alone = fed(FALL).result()
    assert {**vars(alone), "about": None}.keys() == vars(whole).keys()
    for name in ("learning_rates", "losses", "smoothed"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(whole, name))
    for name in ("suggestions", "spread", "status", "message", "suggestion"):
        assert getattr(alone, name) == getattr(whole, name)


@pytest.mark.parametrize("seed", range(2))
def test_a_users_loop_finds_what_the_tool_finds(found, seed):
    key = jax.random.fold_in(jax.random.key(0), seed)
    w = np.asarray(BOWL.init({"learning_rate": 1e-5}, key).params)
    test = adaptax.range_test(1e-5, num_steps=STEPS)
    for rate in test:
        test.tell(0.5 * np.sum(CURVATURE * w**2))
        w = w - rate * CURVATURE * w
    expected = read(found.learning_rates, found.losses[seed], 1 - 20 / STEPS, 4.0)
    assert test.result().suggestions == pytest.approx(expected.suggestions)


def noisy(seed):
    """Draw losses that fall, fluctuate and explode, above their lowest afterwards."""
    generator = np.random.default_rng(seed)
    size, offset = generator.choice([1e-3, 1, 1e4]), generator.choice([0.0, -2.0, 5.0])
    middle = generator.integers(4, 30)
    turn = middle + generator.integers(3, 20)
    noise = 1 + generator.choice([0.0, 0.03, 0.2]) * generator.normal(size=STEPS)
    fall = 3 - 2 / (1 + np.exp(middle - STEP))
    rise = np.where(turn < STEP, 2.0 ** np.minimum(STEP - turn, 14), 0)
    rise *= generator.choice([1.0, 0.1], size=STEPS)
    curve = size * (fall * noise + generator.choice([0.5, 3]) * rise + offset)
    curve[generator.random(STEPS) < generator.choice([0.0, 0.1])] = np.nan
    return curve.astype(np.float32)


def test_an_early_end_does_not_change_the_reading():
    rates, early = np.geomspace(1e-7, 10, STEPS).astype(np.float32), 0
    for seed in range(60):
        curve = noisy(seed)
        lengths = (n for n in range(STEPS - 3) if is_over(curve[:n], STEPS, 0.6, 4.0))
        length = next(lengths, None)
        if length is None:
            continue
        early += 1
        cut = np.where(length > STEP, curve, np.float32(np.nan))
        whole, part = read(rates, curve, 0.6, 4.0), read(rates, cut, 0.6, 4.0)
        np.testing.assert_array_equal(part.smoothed, whole.smoothed, str(seed))
        assert (part.status, part.suggestions) == (whole.status, whole.suggestions)
    assert early > 20


def test_it_ends_when_the_loss_has_diverged_and_not_before():
    test = fed(RISE)
    result = test.result()
    steps = int(np.isfinite(result.losses).sum())
    assert 45 < steps < STEPS
    assert np.isfinite(result.smoothed).sum() < steps
    assert result.losses.shape == (1, STEPS)
    assert "diverged" in repr(test)
    assert list(test) == []
    assert np.isfinite(fed(FALL).result().losses).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 8e29])
def test_it_ends_by_the_rule_of_all_tools(bad):
    curve = np.where(STEP < 10, 1.0, bad)
    test = fed(curve)
    # The loss of the step that was already under way is left out.
    assert f"{10 + PATIENCE}/{STEPS} steps, diverged" in repr(test)
    assert test.result().status == "diverged at once"


def test_two_outliers_around_one_loss_do_not_end_it():
    curve = FALL.copy()
    curve[[45, 47]] = 8.0  # the last median of the losses up to here is 8, not 1
    assert f"{STEPS}/{STEPS} steps>" in repr(fed(curve))


def test_one_loss_that_is_not_finite_does_not_end_it():
    curve = FALL.copy()
    curve[20] = np.nan
    test = fed(curve)
    assert f"{STEPS}/{STEPS}" in repr(test)
    assert test.result().status == "never diverged"
    assert np.isnan(test.result().losses[0, 20])


@pytest.mark.parametrize(
    "form",
    [float, np.float64, np.asarray, jnp.float32, jnp.bfloat16, ml_dtypes.bfloat16],
)
def test_losses_of_every_type_are_read_as_float32(form):
    test = adaptax.range_test(num_steps=10)
    for step, _ in enumerate(test):
        test.tell(form(step / 4))
    assert test.result().losses.dtype == np.float32
    np.testing.assert_array_equal(test.result().losses[0], np.arange(10) / 4)


@pytest.mark.parametrize("form", [float, np.float64])
def test_a_loss_that_float32_cannot_hold_is_infinite(form):
    test = adaptax.range_test(num_steps=10)
    for _ in test:
        test.tell(form(1e300))
    assert test.result().status == "not finite"


def test_a_loss_is_read_one_step_later():
    read_at = []

    class Slow:
        """A loss that takes note of when it is read."""

        def __init__(self, step):
            self.step = step

        def is_deleted(self):
            return False

        def __array__(self, dtype=None, copy=None):
            read_at.append((self.step, told))
            return np.asarray(1.0, dtype)

    test, told = adaptax.range_test(num_steps=12), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "as_metric", lambda _, loss: loss)
        for _ in test:
            told += 1
            test.tell(Slow(told))
    assert read_at == [(step, step + 1) for step in range(1, 12)]
    test.result()
    assert read_at[-1] == (12, 12)


def test_a_break_leaves_the_result_of_a_shorter_test():
    whole, left = fed(FALL).result(), adaptax.range_test(num_steps=STEPS)
    for step, _ in enumerate(left):
        left.tell(FALL[step])
        if step == 39:
            break
    result = left.result()
    np.testing.assert_array_equal(result.learning_rates, whole.learning_rates[:40])
    np.testing.assert_array_equal(result.losses, whole.losses[:, :40])
    assert result.status == "never diverged"
    assert f"the highest rate, {whole.learning_rates[39]:.2g}" in result.message


def test_a_loop_left_at_a_loss_that_is_not_finite_has_diverged():
    test = adaptax.range_test(num_steps=STEPS)
    for _, loss in zip(test, FALL[:45]):  # noqa: B905
        test.tell(loss)
    assert test.result().status == "never diverged"
    next(iter(test))
    test.tell(np.nan)
    assert test.result().status == "ok"
    assert test.result().losses.shape == (1, STEPS)


def test_another_loop_continues_with_the_rate_that_was_not_used():
    test, rates = adaptax.range_test(num_steps=STEPS), []
    for _ in range(5):
        for rate, _ in zip(test, range(15)):  # noqa: B905
            rates.append(rate)
            test.tell(1.0)
    np.testing.assert_array_equal(np.float32(rates), test.result().learning_rates)
    assert list(test) == []


def test_rates_are_those_of_the_tool(found):
    rates = list(rates_of(adaptax.range_test(1e-5, num_steps=STEPS)))
    assert all(type(rate) is float for rate in rates)
    np.testing.assert_array_equal(rates, found.learning_rates)
    linear = list(rates_of(adaptax.range_test(1, 2, 11, mode="linear")))
    np.testing.assert_allclose(linear, 1 + np.arange(11) / 10, rtol=1e-6)


def rates_of(test):
    for rate in test:
        yield rate
        test.tell(1.0)


def test_a_long_test_does_not_look_at_every_step(monkeypatch):
    looks = []
    monkeypatch.setattr(MODULE, "is_over", lambda *args: bool(looks.append(args)))
    fed(np.ones(1000))
    assert len(looks) == 99


@pytest.mark.parametrize("turn", ["before", "twice", "after the end"])
def test_a_loss_out_of_turn_is_refused(turn):
    test = adaptax.range_test(num_steps=12)
    if turn == "twice":
        next(test)
        test.tell(1.0)
    if turn == "after the end":
        test = fed(np.ones(12))
    with pytest.raises(ValueError, match=r"tell\(loss\) must be called once after"):
        test.tell(1.0)


def test_a_loss_that_was_forgotten_is_asked_for():
    with pytest.raises(ValueError, match=r"loss at the rate 1e-07 is missing: call te"):
        list(adaptax.range_test())


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (None, TypeError, "loss must be a number"),
        ("1", TypeError, "loss must be a number"),
        (10**400, TypeError, "loss must be a number"),
        (1j, TypeError, "loss must be real"),
        (np.ones(3), ValueError, r"loss must be a scalar, got shape \(3,\). Take its"),
        (jnp.ones((1,)), ValueError, "loss must be a scalar"),
        (jax.random.key(0), TypeError, "loss must be a number"),
    ],
)
def test_a_loss_that_is_none_is_refused_and_can_be_told_again(loss, error, message):
    test = adaptax.range_test()
    next(test)
    with pytest.raises(error, match=message):
        test.tell(loss)
    test.tell(1.0)


def test_a_traced_loss_is_refused():
    test = adaptax.range_test()
    next(test)
    with pytest.raises(TypeError, match="loss must have a value, got a traced one"):
        jax.eval_shape(test.tell, jnp.float32(1))


def test_a_loss_that_was_donated_is_refused_with_the_remedy():
    test, loss = adaptax.range_test(), jnp.float32(1)
    next(test)
    test.tell(loss)
    loss.delete()
    next(test)
    with pytest.raises(ValueError, match=r"1e-07 was donated .* tell\(float\(loss\)\)"):
        test.tell(1.0)


@pytest.mark.parametrize("losses", [0, 1, 9])
def test_too_few_losses_have_no_result(losses):
    test = adaptax.range_test()
    for _, _ in zip(test, range(losses)):  # noqa: B905
        test.tell(1.0)
    with pytest.raises(ValueError, match=rf"needs at least 10 losses, got {losses}: "):
        test.result()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"low": 1.0, "high": 1.0}, ValueError, "low must be < high"),
        ({"low": float("nan")}, ValueError, "low must be > 0, got nan"),
        ({"low": 0.0}, ValueError, "low must be > 0"),
        ({"high": float("inf")}, ValueError, "high"),
        ({"num_steps": 9}, ValueError, "num_steps must be >= 10"),
        ({"num_steps": 20.0}, TypeError, "num_steps must be an integer"),
        ({"mode": "cosine"}, ValueError, "mode must be one of"),
        ({"smoothing": 1.0}, ValueError, "smoothing"),
        ({"divergence": 1.0}, ValueError, "divergence must be > 1"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        adaptax.range_test(**options)


def test_the_result_is_saved_and_listed_as_any_other(tmp_path):
    result = fed(RISE).result()
    result.save(tmp_path / "found.json")
    loaded = adaptax.FinderResult.load(tmp_path / "found.json")
    assert loaded.suggestions == result.suggestions
    assert loaded.about == result.about
    assert len(result.to_records()) == STEPS


def test_the_repr_says_how_far_it_is():
    test = adaptax.range_test(1e-5, 1.0)
    assert repr(test) == "<RangeTest 1e-05 to 1: 0/100 steps>"
    for _ in itertools.islice(rates_of(test), 3):
        pass
    assert repr(test) == "<RangeTest 1e-05 to 1: 2/100 steps>"
