"""The checks of hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptax._core import checks


@pytest.mark.parametrize("condition", [False, np.False_, jnp.asarray(False)])
def test_what_is_known_to_be_false_is_an_error(condition):
    with pytest.raises(ValueError, match="the message"):
        checks.require(condition, "the message")


@pytest.mark.parametrize("condition", [True, np.True_, jnp.asarray(True)])
def test_what_is_true_is_none(condition):
    checks.require(condition, "never seen")


NUMBERS = [
    0.5,
    1,
    np.float32(0.5),
    np.float64(0.5),
    np.asarray(0.5),
    jnp.asarray(0.5),
    jnp.asarray(0.5, jnp.bfloat16),
    jnp.bfloat16(0.5),
    np.int64(1),
]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_of_any_type_are_taken(value):
    checks.number("x", value, above=0, at_most=1)


@pytest.mark.parametrize(
    ("bounds", "value", "says"),
    [
        ({"at_least": 0}, -1.0, "x must be >= 0, got -1.0."),
        ({"above": 0}, 0, "x must be > 0, got 0."),
        ({"at_most": 1}, 2, "x must be <= 1, got 2."),
        ({"below": 1}, 1.0, "x must be < 1, got 1.0."),
        ({"at_least": 0, "below": 1}, 1.0, "x must be >= 0 and < 1, got 1.0."),
        ({"at_least": 0}, np.nan, "x must be >= 0, got nan."),
        ({}, np.nan, "x must be finite, got nan."),
        ({"at_least": 0}, np.inf, "x must be >= 0, got inf."),
        ({}, -np.inf, "x must be finite, got -inf."),
    ],
)
def test_a_number_out_of_its_bounds_is_named_with_them(bounds, value, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared in full)
        checks.number("x", value, **bounds)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    "value",
    [None, True, np.True_, "0.1", [0.1], (0.1,), {}, 1j, np.complex64(1), b"1"],
    ids=repr,
)
@pytest.mark.parametrize("check", [checks.number, checks.count, checks.rate])
def test_what_is_no_real_number_is_a_type_error(check, value):
    with pytest.raises(TypeError, match=r"^x must be a (real )?number, got"):
        check("x", value)


@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.complex64])
def test_arrays_of_truth_values_and_complex_numbers_are_type_errors(dtype):
    with pytest.raises(TypeError, match="x must be a real number"):
        checks.number("x", jnp.ones((), dtype))


@pytest.mark.parametrize("value", [np.ones(1), jnp.ones((2,)), np.ones((1, 1))])
@pytest.mark.parametrize("check", [checks.number, checks.count, checks.rate])
def test_arrays_are_refused_with_the_remedy(check, value):
    with pytest.raises(ValueError, match=r"must be a scalar.*vmap over it"):
        check("x", value)


@pytest.mark.parametrize(
    "check", [checks.number, checks.rate, checks.count, checks.averaging_factor]
)
def test_traced_values_pass(check):
    jax.eval_shape(lambda x: check("x", x), jnp.asarray(-5))
    jax.vmap(lambda x: check("x", x))(jnp.asarray([-5, -6]))


def test_the_shape_of_a_traced_value_is_checked_all_the_same():
    with pytest.raises(ValueError, match="must be a scalar"):
        jax.eval_shape(lambda x: checks.number("x", x), jnp.ones(3))


@pytest.mark.parametrize("value", [3, np.int32(3), jnp.asarray(3)])
def test_whole_numbers_are_counts(value):
    checks.count("x", value, at_least=3)


@pytest.mark.parametrize("value", [3.0, np.float32(3), jnp.asarray(3.0)])
def test_numbers_with_a_fraction_are_not_counts(value):
    with pytest.raises(TypeError, match="x must be an integer"):
        checks.count("x", value)


def test_counts_have_a_lower_bound():
    with pytest.raises(ValueError, match=r"x must be >= 1, got 0\."):
        checks.count("x", 0, at_least=1)


@pytest.mark.parametrize("value", [0.0, 0.999, jnp.asarray(1, jnp.bfloat16)])
def test_averaging_factors_may_be_one_only_where_they_were_rounded(value):
    checks.averaging_factor("b", value)


@pytest.mark.parametrize("value", [1.0, jnp.ones(()), -0.1, np.nan, 1.5])
def test_averaging_factors_are_at_least_0_and_less_than_1(value):
    with pytest.raises(ValueError, match="b must be >= 0 and < 1"):
        checks.averaging_factor("b", value)


@pytest.mark.parametrize("value", [0, 0.0, 1e-37, 1e38, np.float32(1e-30)])
def test_rates_that_float32_can_hold_are_taken(value):
    checks.rate("x", value)


@pytest.mark.parametrize(
    ("value", "says"),
    [(1e-320, "it would act as 0"), (1e-40, "it would act as 0"), (1e39, "float32")],
)
def test_rates_that_float32_cannot_hold_are_refused(value, says):
    with pytest.raises(ValueError, match=says):
        checks.rate("x", value)


def test_a_choice_lists_what_there_is():
    checks.one_of("mode", "max", ("min", "max"))
    with pytest.raises(ValueError, match="mode must be one of 'min', 'max', got 'mid'"):
        checks.one_of("mode", "mid", ("min", "max"))
