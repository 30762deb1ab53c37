"""The loss ratio against its rule, at its bounds and on either side of zero."""

import jax
import numpy as np
import pytest
from conformance.contracts import Contract, Goal
from metrics import METRICS, assert_follows, followed, run
from reference.smoothing import averages

import adaptax


def reference(
    metrics,
    gradients=None,
    *,
    lower_bound=0.0,
    min_scale=0.0,
    decay=0.0,
    reference="first",
):
    """Scale by the loss above its bound, as a part of the first such loss or of it."""
    del gradients
    for loss in averages(metrics, decay):
        if loss <= lower_bound:
            ratio = 0.0
        elif reference == "current":
            ratio = 1 - lower_bound / loss
        elif metrics[0] <= lower_bound:
            ratio = 1.0
        else:
            ratio = (loss - lower_bound) / (metrics[0] - lower_bound)
        yield min(max(ratio, min_scale), 1.0)


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 5e-2, {"lower_bound": 1e-3})},
)

ARGUMENTS = {
    "by default": {},
    "with averages": {"decay": 0.8, "lower_bound": -4.0},
    "by the loss itself": {"reference": "current", "lower_bound": 0.5},
    "within bounds": {"lower_bound": 0.9, "min_scale": 0.3},
}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_it_scales_as_the_rule_says(arguments, metrics):
    assert_follows(reference, adaptax.loss_ratio, metrics, **arguments)


@pytest.mark.parametrize("reference", ["first", "current"])
def test_it_falls_with_the_loss_and_never_leaves_its_bounds(reference):
    ratio = adaptax.loss_ratio(0.5, 0.01, reference=reference)
    scales, _ = run(ratio, np.linspace(4, -1, 40))
    assert np.all(np.diff(scales) <= 0)
    assert scales.min() == np.float32(0.01)
    assert scales.max() <= 1


def test_it_does_not_depend_on_where_zero_is_nor_on_the_unit():
    losses = np.asarray([8, 6, 7, 3, 1, 2])
    scales, _ = run(adaptax.loss_ratio(lower_bound=0.5), losses)
    other, _ = run(adaptax.loss_ratio(lower_bound=-15.0), 2 * losses - 16)
    np.testing.assert_allclose(scales, other, rtol=1e-6)


@pytest.mark.parametrize(("losses", "last"), [([2, 2, 2], 0), ([2, 1, 3], 1)])
def test_a_first_loss_at_its_bound_divides_nothing_by_zero(losses, last):
    scales, state = run(adaptax.loss_ratio(lower_bound=2.0), losses)
    assert scales[-1] == last
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_loss_is_the_first_finite_one(bad):
    scales, state = run(adaptax.loss_ratio(), [bad, 4, bad, 2])
    np.testing.assert_array_equal(scales, [1, 1, 1, 0.5])
    assert int(state.skipped) == 2
    assert followed(state).first == 4


def test_telemetry_says_what_changed_and_when():
    _, state = run(adaptax.loss_ratio(0.0, 0.25), [8, 4, 1, 0.5, 0.5])
    shown = adaptax.telemetry(state)
    assert shown["loss_ratio/floored"] == 3
    assert shown["loss_ratio/learning_rate"] == 0.25
    assert shown["loss_ratio/changed_at"] == 2


def test_the_largest_losses_keep_the_state_finite():
    largest = float(np.finfo(np.float32).max)
    ratio = adaptax.loss_ratio(lower_bound=-largest, decay=0.5)
    _, state = run(ratio, [largest, -largest, largest, 1e-42])
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lower_bound": np.nan}, "lower_bound must be finite"),
        ({"reference": "current"}, "lower_bound must be > 0"),
        ({"reference": "last"}, "reference must be one of"),
        ({"min_scale": 1.5}, "min_scale must"),
        ({"decay": -0.1}, "decay must"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        adaptax.loss_ratio(**arguments)
