"""Readings of range tests: curves with known answers, slow references, bad curves."""

import numpy as np
import pytest

from adaptax.tuning.analysis.range_tests import (
    FELL,
    SUGGESTIONS,
    Reading,
    agreement,
    read,
    smooth,
)
from adaptax.tuning.analysis.suggestions import longest_decrease

STEPS = 101
RATES = np.geomspace(1e-8, 1e2, STEPS)  # ten steps to a decade
PLACES = np.log10(RATES)
SMOOTHING = 0.8


def reading(losses, smoothing=0.0, rates=RATES):
    return read(rates, np.asarray(losses), smoothing, divergence=4.0)


def valley_curve(bottom=-1.0, level=2.0):
    """Fall from 1e-4 to the bottom, one by a decade's third, and rise steeply after."""
    fall = np.clip(PLACES + 4, 0, bottom + 4) / 3
    return level - fall + 8 * np.clip(PLACES - bottom, 0, None)


def sigmoid_curve(middle=-3.0, sharpness=6.0):
    return 1 + 1 / (1 + np.exp(sharpness * (PLACES - middle)))


def at(place):
    return pytest.approx(10.0**place, rel=0.3)  # one step, 10 ** 0.1, either way


def test_a_valley_gives_the_rates_that_its_shape_says():
    found = reading(valley_curve())
    assert found.status == "ok"
    assert found.suggestions["valley"] == at(-4 + 2 / 3 * 3)
    assert found.suggestions["minimum"] == at(-2)
    assert -4 < np.log10(found.suggestions["steep"]) < -1


def test_steep_is_the_middle_of_a_sigmoid():
    found = reading(sigmoid_curve(-3.0))
    assert found.suggestions["steep"] == pytest.approx(1e-3)


def test_steep_goes_by_the_logarithm_of_the_rate_where_lightning_does_not():
    curve = sigmoid_curve(-3.0, sharpness=2.0)
    lightning = RATES[np.gradient(curve, RATES).argmin()]
    assert lightning < 1e-3 * reading(curve).suggestions["steep"]


def test_slide_ends_where_both_of_its_points_are_on_the_fall():
    found = reading(valley_curve(bottom=0.0))
    apart = round(0.15 * STEPS) / 10
    assert found.suggestions["slide"] == at(-apart - 0.1)


def test_smoothing_is_the_weighted_mean_of_the_losses_so_far():
    losses = np.random.default_rng(0).normal(size=20)
    weights = [SMOOTHING ** np.arange(t, -1, -1.0) for t in range(20)]
    means = [np.average(losses[: len(w)], weights=w) for w in weights]
    np.testing.assert_allclose(smooth(losses, SMOOTHING), means)


def fastai_valley(losses, drop):
    """Follow fastai's double loop, and keep where each subsequence came from."""
    lengths, before = [1] * len(losses), [None] * len(losses)
    end = 0
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[j] - losses[i] >= drop and lengths[i] < lengths[j] + 1:
                lengths[i], before[i] = lengths[j] + 1, j
        if lengths[i] > lengths[end]:
            end = i
    places = [end]
    while before[places[0]] is not None:
        places.insert(0, before[places[0]])
    return places


def fastai_slide(rates, losses, apart, threshold):
    slopes = np.gradient(losses)
    right, left = -1, -1 - apart
    while left >= -len(losses) and abs(slopes[right] - slopes[left]) > threshold:
        right, left = right - 1, left - 1
    return rates[left] if left >= -len(losses) else None


def noisy_curves():
    generator = np.random.default_rng(1)
    for bottom in (-2.0, -1.0, 0.0):
        for noise in (0.0, 0.01, 0.1):
            yield valley_curve(bottom) + noise * generator.normal(size=STEPS)


def counted(found, losses):
    """Return the rates and smoothed losses that the suggestions are made of."""
    kept = np.isfinite(found.smoothed)
    kept[: STEPS // 10] = False
    tenth = STEPS // 10
    start = min(losses[:tenth].mean(), losses[tenth : 2 * tenth].mean())
    return RATES[kept], found.smoothed[kept], start


def test_the_longest_decrease_agrees_with_the_double_loop():
    generator = np.random.default_rng(2)
    for drop in (1e-9, 0.25):
        for _ in range(20):
            values = generator.normal(size=30).round(1)
            assert longest_decrease(values, drop) == fastai_valley(values, drop)


def test_valley_and_slide_agree_with_fastai_written_by_hand():
    for losses in noisy_curves():
        found = reading(losses, SMOOTHING)
        rates, smoothed, start = counted(found, losses)
        places = fastai_valley(smoothed, (start - smoothed.min()) / 200)
        valley = rates[places[int(2 / 3 * (len(places) - 1) + 1e-9)]]
        assert found.suggestions["valley"] == pytest.approx(valley)
        steepest = -np.gradient(smoothed).min()
        slide = fastai_slide(rates, smoothed, round(0.15 * STEPS), 0.2 * steepest)
        assert found.suggestions["slide"] == pytest.approx(slide)


def test_valley_does_not_count_what_rates_too_small_to_train_achieve():
    def creeping(rates):
        places = np.log10(rates)
        fall = 2 / (1 + np.exp(-4 * (places + 2)))  # it never quite stands still
        return 3 - fall + 8 * np.clip(places, 0, None)

    from_low, from_high = (np.geomspace(low, 10, STEPS) for low in (1e-12, 1e-5))
    ours = [
        reading(creeping(rates), rates=rates).suggestions["valley"]
        for rates in (from_low, from_high)
    ]
    fastai = []
    for rates in (from_low, from_high):
        places = fastai_valley(creeping(rates), 1e-300)
        fastai.append(rates[places[len(places) // 2]])
    assert fastai[1] > 100 * fastai[0]
    assert ours[1] == pytest.approx(ours[0], rel=1.0)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_loss_does_not_matter(unit):
    for losses in noisy_curves():
        assert reading(unit * losses, SMOOTHING).suggestions == pytest.approx(
            reading(losses, SMOOTHING).suggestions
        )


@pytest.mark.parametrize("offset", [-1e3, -2.0, 1e3])
def test_losses_of_any_sign_and_offset_can_diverge(offset):
    plain = reading(valley_curve())
    moved = reading(valley_curve() + offset)
    assert moved.status == plain.status == "ok"
    assert np.isnan(moved.smoothed[-1])
    assert moved.suggestions["valley"] == pytest.approx(plain.suggestions["valley"])
    assert moved.suggestions["minimum"] == pytest.approx(plain.suggestions["minimum"])


def test_what_follows_the_divergence_is_not_read():
    losses = valley_curve()
    plain = reading(losses, SMOOTHING)
    stop = int(np.isfinite(plain.smoothed).sum())
    assert 0 < stop < STEPS - 2
    for value in (np.nan, np.inf, 1e30):
        changed = losses.copy()
        changed[stop + 1 :] = value
        other = reading(changed, SMOOTHING)
        assert other.suggestions == plain.suggestions
        np.testing.assert_array_equal(other.smoothed, plain.smoothed)


def test_a_loss_that_rises_again_without_diverging_has_all_suggestions():
    found = reading(sigmoid_curve(-3.0) + 0.5 / (1 + np.exp(-6 * PLACES)))
    assert found.status == "ok"
    assert np.isfinite(found.smoothed).all()
    assert None not in found.suggestions.values()


def test_a_loss_that_only_falls_has_no_suggestion_that_needs_its_end():
    found = reading(3 - np.clip(PLACES + 4, 0, None) / 3)
    assert found.status == "never diverged"
    assert found.suggestions["slide"] is None
    assert found.suggestions["minimum"] is None
    assert found.suggestions["valley"] < 0.1 * RATES[-1]


def rising(factor):
    return factor ** np.arange(STEPS)


ONCE = np.where(np.arange(STEPS) < 1, 2.0, np.nan)
BAD_CURVES = {
    "constant": (np.full(STEPS, 0.3), "flat"),
    "constant zero": (np.zeros(STEPS), "flat"),
    "constant negative": (np.full(STEPS, -0.3), "flat"),
    "noise of float32": (1 + 1e-7 * np.sin(PLACES * 9), "flat"),
    "rises from the first step": (rising(1.5), "diverged at once"),
    "rises slowly": (rising(1.01), "diverged at once"),
    "NaN at the second step": (ONCE, "diverged at once"),
    "flat, then NaN": (np.where(PLACES < 0, 2.0, np.nan), "diverged at once"),
    "NaN": (np.full(STEPS, np.nan), "not finite"),
    "NaN first": (np.where(np.arange(STEPS) < 1, np.nan, 1.0), "flat"),
    "infinite first": (np.where(np.arange(STEPS) < 1, np.inf, 1.0), "flat"),
    "minus infinity first": (np.full(STEPS, -np.inf), "not finite"),
}


@pytest.mark.parametrize("name", BAD_CURVES)
@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING, 0.99])
def test_a_bad_curve_has_a_status_and_no_suggestion(name, smoothing):
    losses, status = BAD_CURVES[name]
    found = reading(losses, smoothing)
    assert found.status == status
    assert found.suggestions == dict.fromkeys(SUGGESTIONS)


def test_a_fall_within_the_first_tenth_alone_is_none():
    fallen = np.maximum(9.0 - np.arange(STEPS), 1)
    found = reading(fallen + 8 * np.clip(PLACES, 0, None))
    assert found.status == "diverged at once"
    assert found.suggestions == dict.fromkeys(SUGGESTIONS)


def cycle(generator, steps, batches, shuffled):
    """Show the same batches in each epoch."""
    losses = generator.normal(size=batches)
    epochs = [generator.permutation(losses) if shuffled else losses] * steps
    return np.concatenate(epochs)[:steps]


def with_memory(generator, steps, memory):
    values = generator.normal(size=steps)
    for step in range(1, steps):
        fresh = np.sqrt(1 - memory**2) * values[step]
        values[step] = memory * values[step - 1] + fresh
    return values


NOISES = {
    "Gaussian": lambda g, n: g.normal(size=n),
    "heavy tailed": lambda g, n: g.standard_t(2, size=n),
    "skewed": lambda g, n: np.exp(g.normal(size=n)),
    "rare batches": lambda g, n: (g.random(n) < 0.03).astype(float),
    "wrong labels": lambda g, n: (g.random((n, 8)) < 0.3).mean(axis=1),
    "cyclic": lambda g, n: cycle(g, n, 12, shuffled=False),
    "shuffled": lambda g, n: cycle(g, n, 12, shuffled=True),
    "growing": lambda g, n: g.normal(size=n) * np.linspace(0.2, 1, n),
}


def readings_of_noise(noise, steps, seeds):
    rates, smoothing = np.geomspace(1e-7, 10, steps), max(0.0, 1 - 20 / steps)
    for seed in range(seeds):
        losses = 2 + 0.1 * noise(np.random.default_rng(seed), steps)
        yield reading(losses, smoothing, rates)


@pytest.mark.parametrize("steps", [30, 100])
@pytest.mark.parametrize("name", NOISES)
def test_noise_is_flat_and_has_almost_never_a_suggestion(name, steps):
    found = list(readings_of_noise(NOISES[name], steps, 40))
    assert sum(each.status != "flat" for each in found) <= 3
    assert sum(any(each.suggestions.values()) for each in found) <= 2


def test_noise_of_very_few_steps_has_almost_never_a_suggestion():
    found = list(readings_of_noise(NOISES["Gaussian"], 10, 100))
    assert sum(any(each.suggestions.values()) for each in found) <= 3


def test_noise_that_lasts_for_steps_seldom_has_a_suggestion():
    found = readings_of_noise(lambda g, n: with_memory(g, n, 0.6), 300, 60)
    fell = sum(any(each.suggestions.values()) for each in found)
    assert fell < 60 / 3  # by its noise from step to step alone, half of them


def test_steep_is_on_the_fall_where_noise_is_steeper_elsewhere():
    generator = np.random.default_rng(6)
    noise = 0.4 * generator.normal(size=(60, STEPS))
    found = [reading(valley_curve() + each, SMOOTHING) for each in noise]
    steep = [each.suggestions["steep"] for each in found if each.status == "ok"]
    assert len(steep) > 40
    assert 1e-5 < min(steep) <= max(steep) < 0.2


@pytest.mark.parametrize("value", [1e6, 1e30, -1e6, np.nan, np.inf])
@pytest.mark.parametrize("step", [0, 5, 40, 60, STEPS - 1])
def test_a_single_bad_batch_changes_no_suggestion(step, value):
    losses = sigmoid_curve() + 8 * np.clip(PLACES, 0, 1)
    plain, spoilt = reading(losses, SMOOTHING), losses.copy()
    spoilt[step] = value
    found = reading(spoilt, SMOOTHING)
    assert found.status == plain.status == "ok"
    for name in SUGGESTIONS:
        assert found.suggestions[name] == pytest.approx(plain.suggestions[name], 0.3)


def test_a_fall_that_noise_does_not_hide_is_found():
    generator = np.random.default_rng(4)
    noise = 0.2 * generator.normal(size=(100, STEPS))
    found = [reading(valley_curve() + each, SMOOTHING) for each in noise]
    assert all(each.status == "ok" for each in found)


def test_noise_that_falls_with_the_loss_does_not_hide_the_fall():
    generator = np.random.default_rng(5)
    factors = np.exp(0.4 * generator.normal(size=(100, STEPS)))
    found = [reading((valley_curve() - 0.95) * each, SMOOTHING) for each in factors]
    assert sum(each.status == "ok" for each in found) > 95


def says(status, **suggestions):
    every = {**dict.fromkeys(SUGGESTIONS), **suggestions}
    return Reading(np.zeros(1), status, every)


def test_seeds_agree_on_geometric_medians_and_their_spread():
    each = [says("ok", valley=rate) for rate in (1e-4, 1e-2, 1e-3)]
    found = agreement(each)
    assert found.suggestions["valley"] == pytest.approx(1e-3)
    assert found.spread["valley"] == (1e-4, 1e-2)
    assert found.suggestions["slide"] is found.spread["slide"] is None
    even = agreement(each[:2])
    assert even.suggestions["valley"] == pytest.approx(1e-3)


def test_a_suggestion_needs_more_than_half_of_the_seeds():
    one = says("ok", valley=1e-3, slide=1e-3)
    other = says("ok", valley=1e-3)
    assert agreement([one, one, other]).suggestions["slide"] == pytest.approx(1e-3)
    assert agreement([one, other]).suggestions["slide"] is None


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["ok", "ok", "flat"], "ok"),
        (["ok", "never diverged", "flat"], "never diverged"),
        (["ok", "flat"], "flat"),
        (["ok", "flat", "diverged at once", "diverged at once"], "diverged at once"),
        (["not finite", "ok", "flat"], "not finite"),
    ],
)
def test_the_status_is_what_most_seeds_say(statuses, status):
    found = agreement([says(each, valley=1e-3) for each in statuses])
    assert found.status == status
    assert (found.suggestions["valley"] is None) == (status not in FELL)
