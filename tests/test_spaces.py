"""Spaces: what is drawn, what is refused, and how the members are put together."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptax import spaces
from adaptax.spaces import choice, grid, log_grid, log_uniform, members, uniform

KEY = jax.random.key(7)
NAN, INF = float("nan"), float("inf")
AXES = {
    "grid": grid([3.0, 1.0, 2.0]),
    "log_grid": log_grid(1e-3, 10.0, 5),
    "uniform": uniform(-1.0, 2.0),
    "log_uniform": log_uniform(1e-6, 10.0),
    "choice": choice([16, 4, 64]),
}

positive = st.floats(1e-30, 1e30)
ordered_pairs = st.tuples(positive, st.floats(1.01, 1e6)).map(
    lambda pair: (pair[0], pair[0] * pair[1])
)


def allowed(axis):
    """Return the values of an axis that has finitely many."""
    return axis.options if isinstance(axis, spaces.Choice) else axis.values


# The axes, one by one.


def test_a_grid_has_its_values_in_their_order_as_int32_or_float32():
    np.testing.assert_array_equal(grid([3, 1, 2]).values, np.array([3, 1, 2]))
    assert grid([3, 1, 2]).values.dtype == np.int32
    assert grid(range(2)).values.dtype == np.int32
    assert grid([3, 1.0]).values.dtype == np.float32
    assert grid((np.float64(0.1), jnp.float32(1))).values.dtype == np.float32
    half = grid(jnp.array([1, 2.5], jnp.bfloat16)).values
    np.testing.assert_array_equal(half, np.array([1, 2.5], np.float32))


@given(ordered_pairs, st.integers(2, 40))
def test_a_log_grid_goes_from_end_to_end_by_equal_ratios(bounds, num):
    values = log_grid(*bounds, num).values
    assert values.dtype == np.float32
    assert (values[0], values[-1]) == tuple(np.float32(bounds))
    ratio = (bounds[1] / bounds[0]) ** (1 / (num - 1))
    np.testing.assert_allclose(values[1:].astype(float) / values[:-1], ratio, rtol=1e-6)


@settings(max_examples=30, deadline=None)  # one length: one compilation
@given(ordered_pairs, st.integers(0, 2**31), st.sampled_from([uniform, log_uniform]))
def test_draws_lie_within_the_bounds_and_follow_from_the_key(bounds, seed, make):
    axis = make(*bounds)
    drawn = axis.draw(jax.random.key(seed), 16)
    assert drawn.dtype == np.float32
    assert (drawn >= np.float32(bounds[0])).all()
    assert (drawn <= np.float32(bounds[1])).all()
    np.testing.assert_array_equal(drawn, axis.draw(jax.random.key(seed), 16))


@pytest.mark.parametrize(
    ("axis", "place"),
    [
        (AXES["uniform"], lambda x: (x + 1) / 3),
        (AXES["log_uniform"], lambda x: (np.log10(x) + 6) / 7),
    ],
)
def test_draws_are_uniform_on_the_scale_of_the_axis(axis, place):
    shares = np.sort(place(axis.draw(KEY, 4000).astype(float)))
    # The greatest distance of the two distributions, which Kolmogorov's test uses: it
    # is above 1.63/√n once in a hundred times.
    assert np.abs(shares - (np.arange(4000) + 0.5) / 4000).max() < 1.63 / 4000**0.5


@pytest.mark.parametrize("name", ["grid", "choice"])
def test_each_of_several_values_is_drawn_equally_often(name):
    axis = AXES[name]
    drawn = axis.draw(KEY, 3000)
    assert drawn.dtype == allowed(axis).dtype
    counts = [(drawn == value).sum() for value in allowed(axis)]
    assert sum(counts) == 3000
    assert ((np.array(counts) - 1000) ** 2 / 1000).sum() < 9.2  # χ², 2 degrees, 1 %


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_another_key_draws_other_values_and_a_raw_key_the_same(axis):
    drawn = axis.draw(KEY, 20)
    assert (drawn != axis.draw(jax.random.key(8), 20)).any()
    np.testing.assert_array_equal(drawn, axis.draw(jax.random.key_data(KEY), 20))


@given(st.lists(st.floats(-1e38, 1e38), min_size=1, max_size=5))
def test_clip_gives_the_nearest_allowed_values(values):
    for axis in (AXES["uniform"], AXES["log_uniform"]):
        clipped = axis.clip(values)
        assert clipped.dtype == np.float32
        inside = np.clip(
            np.float32(values), np.float32(axis.low), np.float32(axis.high)
        )
        np.testing.assert_array_equal(clipped, inside)
    for axis in (AXES["grid"], AXES["log_grid"], AXES["choice"], grid([1, 2, 3])):
        points = [Fraction(point) for point in allowed(axis).tolist()]
        clipped = axis.clip(values)
        assert clipped.dtype == allowed(axis).dtype
        for found, value in zip(clipped.tolist(), map(Fraction, values), strict=True):
            least = min(abs(point - value) for point in points)
            assert abs(Fraction(found) - value) <= least * (1 + Fraction(1e-12))


def test_perturbation_multiplies_on_an_interval_and_stops_at_its_bounds():
    for axis in (uniform(0.0, 2.0), log_uniform(0.5, 2.0)):
        moved = axis.perturbed(np.float32([1, 1.9, 0.5]), [0.8, 1.2, 0.8], KEY)
        assert moved.dtype == np.float32
        least = 0.4 if axis.low == 0 else 0.5
        np.testing.assert_allclose(moved, [0.8, 2.0, least], rtol=1e-6)


def test_perturbation_of_huge_values_does_not_overflow():
    with np.errstate(all="raise"):
        moved = uniform(1.0, 3e38).perturbed(np.float32([3e38]), [1.2], KEY)
    np.testing.assert_array_equal(moved, np.float32([3e38]))


@pytest.mark.parametrize("axis", [AXES["grid"], AXES["log_grid"], grid([8, 2, 2, 4])])
def test_perturbation_goes_to_the_next_point_of_a_grid_by_value(axis):
    points = sorted(set(axis.values.tolist()))
    expected = []
    for value in axis.values.tolist():
        place = points.index(value)
        expected += [
            points[max(place - 1, 0)],
            value,
            ([*points, points[-1]])[place + 1],
        ]
    now, factors = np.repeat(axis.values, 3), np.tile([0.8, 1.0, 1.2], len(axis.values))
    moved = axis.perturbed(now, factors, KEY)
    assert moved.dtype == axis.values.dtype
    assert moved.tolist() == expected


def test_perturbation_draws_a_choice_anew():
    axis = AXES["choice"]
    now = np.full(20, 4, np.int32)
    moved = axis.perturbed(now, np.full(20, 1.2), KEY)
    np.testing.assert_array_equal(moved, axis.draw(KEY, 20))
    assert set(moved.tolist()) == {4, 16, 64}


# Members.


def rows(made):
    """Return the members as a list of tuples, in the order of the space's keys."""
    return list(zip(*(leaf.tolist() for leaf in made.values()), strict=True))


def test_grids_multiply_and_the_first_key_varies_slowest():
    made = members({"b": grid([1, 2]), "a": grid([5, 6, 7]), "c": 0.5}, None, KEY)
    assert list(made) == ["b", "a", "c"]
    assert rows(made) == list(itertools.product([1, 2], [5, 6, 7], [0.5]))
    assert {leaf.dtype for leaf in made.values()} == {np.dtype("i4"), np.dtype("f4")}


def test_lists_go_together_and_multiply_with_grids():
    space = {"x": [1, 2], "g": grid([5, 6, 7]), "y": np.array([8, 9])}
    made = members(space, None, KEY)
    assert rows(made) == [(x, g, y) for x, y in [(1, 8), (2, 9)] for g in [5, 6, 7]]


def test_each_point_of_a_grid_gets_its_own_draws():
    axis = uniform(0.0, 1.0)
    made = members({"x": axis, "g": grid([5, 6, 7])}, 4, KEY)
    np.testing.assert_array_equal(made["g"], np.repeat([5, 6, 7], 4))
    assert len(set(made["x"].tolist())) == 12


def test_without_a_grid_there_are_as_many_members_as_samples():
    made = members({"x": uniform(0.0, 1.0), "y": uniform(0.0, 1.0), "c": 3}, 5, KEY)
    assert [leaf.shape for leaf in made.values()] == [(5,)] * 3
    assert (made["x"] != made["y"]).all()


def test_draws_of_a_hyperparameter_do_not_depend_on_the_others():
    alone = members({"x": log_uniform(1e-3, 1.0)}, 5, KEY)["x"]
    space = {"w": choice([1, 2]), "x": log_uniform(1e-3, 1.0), "v": 1.0}
    np.testing.assert_array_equal(members(space, 5, KEY)["x"], alone)
    assert (members(space, 5, jax.random.key(1))["x"] != alone).any()


def test_dicts_may_hold_dicts_and_constants_alone_are_one_member():
    made = members({"adam": {"b1": 0.9, "b2": jnp.float32(0.5)}, "n": 3}, None, KEY)
    assert jax.tree.map(lambda leaf: leaf.shape, made) == {
        "adam": {"b1": (1,), "b2": (1,)},
        "n": (1,),
    }
    assert made["adam"]["b1"] == np.float32(0.9)
    assert made["n"].dtype == np.int32


def test_nested_names_are_told_apart_in_what_they_draw():
    space = {"a": {"x": uniform(0.0, 1.0)}, "b": {"x": uniform(0.0, 1.0)}}
    made = members(space, 5, KEY)
    assert (made["a"]["x"] != made["b"]["x"]).all()


def test_entries_are_in_the_order_of_the_leaves_of_the_members():
    space = {"z": [1.0, 2.0], "a": {"k": AXES["grid"], "b": 0.5}, "m": AXES["choice"]}
    made = jax.tree.leaves(members(space, 2, KEY))
    for entry, leaf in zip(spaces.entries(space), made, strict=True):
        within = allowed(entry) if spaces.is_axis(entry) else entry
        assert np.isin(leaf, np.float32(within)).all()


def test_a_space_is_random_if_an_axis_at_any_depth_is():
    assert spaces.is_random({"a": 1.0, "b": {"c": choice([1, 2])}})
    assert not spaces.is_random({"a": 1.0, "b": {"c": grid([1, 2])}, "d": [1, 2]})


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 4), max_size=3),
    st.integers(1, 3),
    st.none() | st.integers(1, 3),
)
def test_members_are_as_many_as_the_product(grids, length, samples):
    space = {f"g{i}": grid(range(size)) for i, size in enumerate(grids)}
    space |= {"x": list(range(length)), "y": list(range(length))}
    if samples is not None:
        space["r"] = choice([1, 2, 3])
    made = members(space, samples, KEY)
    expected = int(np.prod(grids)) * length * (samples or 1)
    assert {leaf.shape for leaf in made.values()} == {(expected,)}
    combinations = {row[: len(grids) + 1] for row in rows(made)}
    assert len(combinations) == expected // (samples or 1)


# What is refused.

REFUSED = {
    "low = high": (lambda: uniform(1.0, 1.0), ValueError, "low must be < high"),
    "low > high": (lambda: log_uniform(1.0, 0.1), ValueError, "low must be < high"),
    "equal in float32": (
        lambda: uniform(1.0, 1.0 + 1e-9),
        ValueError,
        "low must be < high in float32",
    ),
    "log of 0": (lambda: log_uniform(0.0, 1.0), ValueError, "low must be > 0, got 0"),
    "log of -1": (lambda: log_grid(-1.0, 1.0, 3), ValueError, "low must be > 0"),
    "log of denormal": (lambda: log_grid(1e-40, 1.0, 3), ValueError, "low must be at"),
    "NaN bound": (lambda: uniform(NAN, 1.0), ValueError, "low must be finite"),
    "infinite bound": (lambda: uniform(0.0, INF), ValueError, "high must be finite"),
    "huge bound": (lambda: uniform(0.0, 1e39), ValueError, "high must be finite in"),
    "bool bound": (lambda: uniform(False, 1.0), TypeError, "low must be a number"),
    "text bound": (lambda: log_uniform("a", 1.0), TypeError, "low must be a number"),
    "one point": (lambda: log_grid(0.1, 1.0, 1), ValueError, "num must be >= 2"),
    "2.0 points": (lambda: log_grid(0.1, 1.0, 2.0), TypeError, "num must be an int"),
    "no values": (lambda: grid([]), ValueError, "values must have at least one value"),
    "no options": (lambda: choice(()), ValueError, "values must have at least one"),
    "NaN value": (lambda: grid([1.0, NAN]), ValueError, "values must be finite"),
    "NaN in array": (lambda: grid(np.array([NAN])), ValueError, "values must be fin"),
    "infinite value": (lambda: choice([INF]), ValueError, "values must be finite"),
    "bool value": (lambda: grid([True, False]), TypeError, "values must be a number"),
    "bool array": (lambda: grid(np.ones(2, bool)), TypeError, "values must be a num"),
    "text value": (lambda: choice(["adam"]), TypeError, "values must be a number"),
    "text": (lambda: grid("12"), TypeError, "values must be a list"),
    "number": (lambda: grid(1.0), TypeError, "values must be a list"),
    "complex": (lambda: grid(np.array([1j])), TypeError, "values must be a"),
    "2-D": (lambda: grid(np.ones((2, 2))), ValueError, "values must be 1-D, got"),
    "huge int": (lambda: grid([1, 2**31]), ValueError, "values must fit into int32"),
    "huge float": (lambda: grid([1e39]), ValueError, "values must fit into float32"),
    "empty space": (lambda: members({}, None, KEY), ValueError, "space must not be"),
    "empty dict within": (
        lambda: members({"a": 1.0, "b": {}}, None, KEY),
        ValueError,
        r"space\['b'\] must not be empty",
    ),
    "no dict": (
        lambda: members(grid([1]), None, KEY),
        TypeError,
        "space must be a dict",
    ),
    "key 1": (lambda: members({1: 0.5}, None, KEY), TypeError, "keys of space must be"),
    "None": (
        lambda: members({"a": None}, None, KEY),
        TypeError,
        r"space\['a'\] must be a number, got None",
    ),
    "text in space": (
        lambda: members({"a": {"b": "relu"}}, None, KEY),
        TypeError,
        r"space\['a'\]\['b'\] must be a number",
    ),
    "matrix in space": (
        lambda: members({"a": np.ones((2, 2))}, None, KEY),
        ValueError,
        r"space\['a'\] must be 1-D",
    ),
    "empty list": (
        lambda: members({"a": []}, None, KEY),
        ValueError,
        r"space\['a'\] must have at least one value",
    ),
    "NaN constant": (
        lambda: members({"a": NAN}, None, KEY),
        ValueError,
        r"space\['a'\] must be finite",
    ),
    "unequal lengths": (
        lambda: members({"a": [1, 2], "b": {"c": [1, 2, 3]}}, None, KEY),
        ValueError,
        r"lengths must be equal, got 2 in space\['a'\], 3 in space\['b'\]\['c'\]",
    ),
    "no samples": (
        lambda: members({"a": uniform(0.0, 1.0)}, None, KEY),
        ValueError,
        r"samples must be the number of draws, got None, and space\['a'\] is drawn",
    ),
    "samples of a grid": (
        lambda: members({"a": grid([1])}, 3, KEY),
        ValueError,
        "samples must be None, got 3",
    ),
    "0 samples": (
        lambda: members({"a": uniform(0.0, 1.0)}, 0, KEY),
        ValueError,
        "samples must be >= 1",
    ),
    "1.5 samples": (
        lambda: members({"a": uniform(0.0, 1.0)}, 1.5, KEY),
        TypeError,
        "samples must be an integer",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_space_is_refused_in_words(make, error, message):
    with pytest.raises(error, match=message):
        make()
