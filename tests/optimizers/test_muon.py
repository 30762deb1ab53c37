import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from conformance.problems import MATRIX, SCALAR
from steps import as_dtype, gradients, updates_of
from test_adam import reference as adam_reference

import adaptax


def reference(
    w,
    gradients,
    values,
    *,
    learning_rate,
    b,
    b1,
    b2,
    eps,
    eps_root,
    weight_decay,
    consistent_rms=None,
    other_scale=1.0,
):
    """W ← W − α (s O + λ W), O from five iterations; for the scalar it is AdamW."""
    numbers = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root}
    average = np.zeros((8, 2))
    free = adam_reference(
        np.zeros(1), gradients[:, SCALAR], values, learning_rate=1, **numbers
    )
    before = np.zeros(1)
    for t, g in enumerate(gradients, start=1):
        G = g[MATRIX].reshape(8, 2)
        average = b * average + (1 - b) * G
        X = b * average / (1 - b ** (t + 1)) + (1 - b) * G / (1 - b**t)
        X = X / (np.linalg.norm(X) + eps)
        for _ in range(5):
            S = X @ X.T
            X = 3.4445 * X + (-4.7750 * S + 2.0315 * S @ S) @ X
        scale = 1 if consistent_rms is None else consistent_rms * np.sqrt(8)
        after = next(free)
        adams = (before - after) * other_scale
        before = after
        step = np.concatenate([scale * X.ravel(), adams])
        w = w - learning_rate * (step + weight_decay * w)
        yield w


CONTRACT = Contract(
    reference,
    by_leaf=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.contrib.muon",),
    goals={
        "quadratic": Goal(300, 5e-2, {"weight_decay": 1e-4}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.01, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)

MATRICES = {"tall": (8, 2), "wide": (3, 5), "square": (4, 4)}
START = {name: np.ones(shape, np.float32) for name, shape in MATRICES.items()}


def given(steps=4):
    random = np.random.default_rng(5)
    return [
        {
            name: np.float32(random.normal(size=shape))
            for name, shape in MATRICES.items()
        }
        for _ in range(steps)
    ]


@pytest.mark.parametrize("rms", [None, 0.2])
def test_matrices_step_as_in_optax(rms):
    arguments = {"weight_decay": 0.01, "consistent_rms": rms}
    ours = adaptax.muon(0.1, b=0.9, **arguments)
    theirs = optax.contrib.muon(0.1, beta=0.9, **arguments)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = updates_of(theirs, given(), START)
    chex.assert_trees_all_close(
        updates_of(ours, given(), START), expected, rtol=2e-4, atol=2e-5
    )


def test_what_is_no_matrix_steps_as_with_adamw():
    vectors = [{"bias": g["wide"][0], "scale": g["tall"][0, 0]} for g in given()]
    start = {"bias": np.ones(5, np.float32), "scale": np.float32(2)}
    arguments = {"b1": 0.8, "b2": 0.9, "weight_decay": 0.01}
    ours = updates_of(adaptax.muon(0.1, **arguments), vectors, start)
    expected = updates_of(adaptax.adamw(0.1, **arguments), vectors, start)
    chex.assert_trees_all_equal(ours, expected)


def test_a_step_has_the_singular_vectors_of_the_gradient_and_values_near_one():
    direction = adaptax.scale_by_muon(steps=10)
    (gradient,) = given(1)
    (update,) = updates_of(direction, [gradient], START)
    for name, (rows, columns) in MATRICES.items():
        left, _, right = np.linalg.svd(gradient[name], full_matrices=False)
        inside = left.T @ update[name] @ right.T / max(1, columns / rows) ** 0.5
        np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-3)
        assert np.all(np.abs(np.diag(inside) - 0.95) < 0.3)


def test_a_step_does_not_depend_on_the_scale_of_the_gradients():
    direction = adaptax.scale_by_muon(eps=0.0)
    larger = [jax.tree.map(lambda x: 1024 * x, gradient) for gradient in given()]
    chex.assert_trees_all_close(
        updates_of(direction, larger, START),
        updates_of(direction, given(), START),
        rtol=1e-5,
    )


def test_a_turned_gradient_gives_a_turned_step():
    direction = adaptax.scale_by_muon(consistent_rms=1.0)
    turned = [{name: g[name].T for name in g} for g in given()]
    start = {name: START[name].T for name in START}
    steps = [{k: u[k].T for k in u} for u in updates_of(direction, turned, start)]
    chex.assert_trees_all_close(
        steps, updates_of(direction, given(), START), rtol=1e-4, atol=1e-5
    )


def test_with_a_consistent_rms_every_shape_has_it():
    direction = adaptax.scale_by_muon(consistent_rms=0.2, steps=10)
    (update,) = updates_of(direction, given(1), START)
    for leaf in update.values():
        assert 0.7 * 0.2 < np.sqrt(np.mean(np.square(leaf))) < 1.2 * 0.2


def test_the_kernel_of_a_convolution_can_be_taken_as_a_matrix():
    direction = adaptax.scale_by_muon(matrices=lambda params: {"kernel": True})
    (gradient,) = given(1)
    kernel, matrix = gradient["tall"].reshape(2, 2, 2, 2), gradient["tall"]
    (as_kernel,) = updates_of(direction, [{"kernel": kernel}], {"kernel": kernel})
    (as_matrix,) = updates_of(direction, [{"kernel": matrix}], {"kernel": matrix})
    np.testing.assert_array_equal(
        as_kernel["kernel"].reshape(8, 2), as_matrix["kernel"]
    )


def test_a_matrix_that_is_not_named_is_left_to_adam():
    named = {"tall": False, "wide": True, "square": True}
    ours = updates_of(adaptax.scale_by_muon(matrices=named), given(), START)
    adams = updates_of(adaptax.scale_by_adam(), given(), START)
    muons = updates_of(adaptax.scale_by_muon(), given(), START)
    for update, adam, muon in zip(ours, adams, muons, strict=True):
        chex.assert_trees_all_equal(update["tall"], adam["tall"])
        chex.assert_trees_all_equal(update["wide"], muon["wide"])


def test_a_vector_cannot_be_taken_as_a_matrix():
    direction = adaptax.scale_by_muon(matrices={"bias": True})
    with pytest.raises(ValueError, match=r"\['bias'\] has 1 axes"):
        direction.init({"bias": jnp.ones(3)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_one_bad_element_keeps_its_matrix_where_it_is_and_no_other(bad):
    direction = adaptax.scale_by_muon()
    first, second = given(2)
    _, state = direction.update(first, direction.init(START))
    spoiled = {**second, "tall": second["tall"].copy()}
    spoiled["tall"][3, 1] = bad
    clean, _ = direction.update(second, state)
    update, after = direction.update(spoiled, state)
    assert not update["tall"].any()
    chex.assert_trees_all_equal(after.mean["tall"], state.mean["tall"])
    chex.assert_trees_all_equal(update["wide"], clean["wide"])
    assert (int(state.skipped), int(after.skipped)) == (0, 1)


def test_bfloat16_is_an_option_of_the_iteration_alone():
    narrow = adaptax.scale_by_muon(matrix_dtype=jnp.bfloat16)
    ours = updates_of(narrow, given(), START)
    wide = updates_of(adaptax.scale_by_muon(), given(), START)
    chex.assert_trees_all_equal_dtypes(ours, wide)
    chex.assert_trees_all_close(ours, wide, atol=0.1)
    assert np.abs(ours[0]["tall"] - wide[0]["tall"]).max() > 1e-5


def test_half_precision_is_turned_in_float32_and_rounded_once():
    half = [as_dtype(gradient, jnp.float16) for gradient in gradients()]
    ours = updates_of(adaptax.scale_by_muon(), half, as_dtype(half[0], jnp.float16))
    wide = [as_dtype(gradient, jnp.float32) for gradient in half]
    expected = as_dtype(updates_of(adaptax.scale_by_muon(), wide), jnp.float16)
    chex.assert_trees_all_equal(ours, expected)


def test_adams_leaves_can_have_a_rate_of_their_own():
    scaled = adaptax.scale_by_muon(other_scale=0.25)
    matrices, scalars = adaptax.scale_by_muon(), adaptax.scale_by_adam()
    for ours, muons, adams in zip(
        updates_of(scaled), updates_of(matrices), updates_of(scalars), strict=True
    ):
        chex.assert_trees_all_equal(ours["matrix"], muons["matrix"])
        chex.assert_trees_all_equal(ours["scalar"], adams["scalar"] / 4)


def test_without_an_average_only_the_newest_gradient_counts():
    direction = adaptax.scale_by_muon(b=0.0)
    for update, gradient in zip(
        updates_of(direction, given(), START), given(), strict=True
    ):
        (alone,) = updates_of(direction, [gradient], START)
        chex.assert_trees_all_close(update, alone, rtol=1e-5)
