"""Complex parameters: as Optax trains them, in wrappers and in the tools' trials."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import Case, plane
from conformance.contract import WRAPPERS
from conformance.contracts import contract_of
from steps import updates_of

import adaptax
from adaptax import catalog
from adaptax._core import leaves

TWINS = {
    entry.name: entry
    for entry in catalog.ENTRIES
    if contract_of(entry).optax_twin is not None
    and not entry.differs
    and entry.family in ("optimizer", "estimate")
}
NOT_IN_OPTAX = {
    "adopt": "it clips, which has no order of complex numbers",
    "prodigy": "it averages z², not |z|²",
    "dadapt_adam": "likewise",
    "cocob": "it compares complex rewards",
    "momo_adam": "it averages z², not |z|²",
}
"""Where Optax has no form for complex parameters."""


def free_run():
    given = plane()
    gradients = [
        jax.tree.map(lambda x, at=at: jnp.asarray(x[at]), given.feeds["free"].gradients)
        for at in range(8)
    ]
    return jax.tree.map(jnp.asarray, given.starts["free"]), gradients


def assert_same(ours, theirs):
    pairs = zip(map(jax.tree.leaves, ours), map(jax.tree.leaves, theirs), strict=True)
    for one, other in pairs:
        for x, y in zip(one, other, strict=True):
            assert x.dtype == jnp.complex64
            np.testing.assert_allclose(x, y, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("name", [name for name in TWINS if name not in NOT_IN_OPTAX])
def test_it_is_what_optax_does_with_complex_parameters(name):
    params, gradients = free_run()
    entry = TWINS[name]
    twin = contract_of(entry).optax_twin()
    with jax.numpy_dtype_promotion("standard"):
        theirs = updates_of(twin, gradients, params, value=jnp.ones(()))
    optimizer = Case(entry).optimizer()
    ours = updates_of(optimizer, gradients, params, value=jnp.ones(()))
    assert_same(ours, theirs)


def real_hyperparameters(case):
    inject = optax.inject_hyperparams(
        case.entry.factory,
        static_args=sorted(case.structural),
        hyperparam_dtype=jnp.float32,
    )
    return inject(**case.arguments)


def complex_sums(case):
    wrapped = optax.MultiSteps(case.optimizer(), 2, accumulator_dtype=jnp.complex64)
    return optax.GradientTransformationExtraArgs(wrapped.init, wrapped.update)


IN_OPTAX_FOR_COMPLEX = {
    "inject_hyperparams": real_hyperparameters,
    "MultiSteps": complex_sums,
}
"""What needs the dtypes as well: else hyperparameters become complex, and sums real."""


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_leave_complex_updates_as_they_are(name):
    params, gradients = free_run()
    case = Case(catalog.find("adam", "optimizer"))
    wrap, every, _ = WRAPPERS[name]
    wrap = IN_OPTAX_FOR_COMPLEX.get(name, wrap)
    repeated = [gradient for gradient in gradients[:2] for _ in range(every)]
    with jax.numpy_dtype_promotion("standard"):
        ours = updates_of(wrap(case), repeated, params, value=jnp.ones(()))
    plain = updates_of(case.optimizer(), gradients[:2], params)
    if name == "quantized":  # of Adam's moments, the real one
        return
    assert_same(ours[every - 1 :: every], plain)


def test_squares_are_real_and_averages_complex_whatever_the_accumulators_dtype():
    params = {"z": jnp.ones(2, jnp.complex64), "x": jnp.ones(2)}
    state = adaptax.scale_by_adam(accumulator_dtype=jnp.bfloat16).init(params)
    assert state.mean["z"].dtype == jnp.complex64
    assert state.mean_sq["z"].dtype == jnp.bfloat16
    assert state.mean["x"].dtype == jnp.bfloat16
    state = adaptax.scale_by_adam(accumulator_dtype=jnp.complex64).init(params)
    assert state.mean["x"].dtype == jnp.float32


def test_norms_and_products_are_those_of_the_plane():
    one = {"z": jnp.asarray([3 + 4j], jnp.complex64), "x": jnp.asarray([12.0])}
    other = {"z": jnp.asarray([1 - 2j], jnp.complex64), "x": jnp.asarray([1.0])}
    assert leaves.global_norm(one) == 13
    assert leaves.absolute_sum(one) == 17
    assert leaves.inner_product(one, other) == 3 - 8 + 12
    zero = jnp.zeros(2, jnp.complex64)
    np.testing.assert_array_equal(jax.grad(leaves.global_norm)(zero), 0)


@pytest.mark.parametrize("make", [adaptax.gradient_descent, adaptax.adagrad])
def test_a_complex_gradient_of_a_real_parameter_is_refused_by_its_path(make):
    params, optimizer = {"w": jnp.ones(2)}, make(0.1)
    gradients = {"w": jnp.ones(2, jnp.complex64)}
    with pytest.raises(ValueError, match=r"\['w'\] has dtype complex64, where"):
        optimizer.update(gradients, optimizer.init(params), params)


def test_a_real_gradient_of_a_complex_parameter_moves_it_as_a_complex_one():
    params = jnp.asarray([1 + 1j], jnp.complex64)
    optimizer = adaptax.adamw(0.1, weight_decay=0.5)
    (real,) = updates_of(optimizer, [jnp.ones(1)], params)
    (same,) = updates_of(optimizer, [jnp.ones(1, jnp.complex64)], params)
    np.testing.assert_array_equal(real, same)


@pytest.mark.parametrize("make", [adaptax.adam, adaptax.muon])
def test_a_trial_goes_down_a_complex_loss(make):
    goal = jnp.asarray([[1 + 2j, -1j], [3, 1 - 1j]], jnp.complex64)

    def loss(params, batch):
        return jnp.mean(batch) * jnp.sum(leaves.abs_sq(params - goal))

    trial = adaptax.trial(
        lambda key: jnp.zeros((2, 2), jnp.complex64),
        loss,
        lambda hparams: make(hparams["learning_rate"]),
        jnp.ones((4, 1)),
    )
    hparams = {"learning_rate": jnp.asarray(0.1)}
    state = trial.init(hparams, jax.random.key(0))
    state, losses = trial.advance(hparams, state, 100)
    assert losses[-1] < 0.1 * losses[0]
    np.testing.assert_allclose(state.params, goal, atol=0.5)


def test_a_complex_matrix_is_turned_unitary():
    random = np.random.default_rng(0)
    parts = random.normal(size=(2, 6, 3))
    matrix = jnp.asarray(parts[0] + 1j * parts[1], jnp.complex64)
    optimizer = adaptax.scale_by_muon()
    (turned,) = updates_of(optimizer, [matrix], matrix)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    values = np.linalg.svd(turned, compute_uv=False)
    assert np.all((values > 0.6) & (values < 1.3))
    aligned = np.diag(left.conj().T @ np.asarray(turned) @ right.conj().T)
    np.testing.assert_allclose(aligned, values_in_order(aligned, values), atol=1e-4)


def values_in_order(aligned, values):
    """Return the singular values as they stand on the diagonal, real and positive."""
    order = np.argsort(np.argsort(-aligned.real))
    return values[order]


@pytest.mark.parametrize("name", NOT_IN_OPTAX)
def test_optax_has_no_other_form_that_follows_a_turned_plane(name):
    params, gradients = free_run()
    turned = jax.tree.map(lambda x: x * jnp.complex64(1j), (params, gradients))

    def turns(optimizer):
        with jax.numpy_dtype_promotion("standard"):
            steps, images = (
                updates_of(optimizer, given, start, value=jnp.ones(()))
                for start, given in ((params, gradients), turned)
            )
        steps, images = (np.asarray([x["matrix"] for x in y]) for y in (steps, images))
        return np.allclose(1j * steps, images, rtol=1e-3, atol=1e-5)

    assert turns(Case(TWINS[name]).optimizer())
    try:
        theirs = turns(contract_of(TWINS[name]).optax_twin())
    except (TypeError, ValueError):
        theirs = False
    assert not theirs


SPLIT = {
    "average": lambda: adaptax.iterate_average(adaptax.gradient_descent(0.5)),
    "packed": lambda: adaptax.packed(SPLIT["average"](), elementwise=True),
    "by leaf": lambda: optax.chain(adaptax.l_dog(), SPLIT["average"]()),
}


@pytest.mark.parametrize("name", SPLIT)
def test_a_state_of_split_numbers_answers_as_one_of_whole_ones(name):
    params = {"b": jnp.ones(3), "z": jnp.asarray([1 + 2j, 3 - 1j], jnp.complex64)}
    split = optax.contrib.split_real_and_imaginary(SPLIT[name]())
    found = {}
    for kind, optimizer in {"split": split, "whole": SPLIT[name]()}.items():
        state, moved = optimizer.init(params), params
        for _ in range(3):
            with jax.numpy_dtype_promotion("standard"):  # Optax joins by 1j
                updates, state = optimizer.update(params, state, moved)
            moved = optax.apply_updates(moved, updates)
        found[kind] = state, adaptax.eval_params(state, moved)
    chex.assert_trees_all_equal_dtypes(found["split"][1], params)
    if name != "by leaf":  # whose leaves are others
        chex.assert_trees_all_close(found["split"][1], found["whole"][1], rtol=1e-6)
    state = found["split"][0]
    assert 0 < adaptax.learning_rate(state) <= 1
    changed = adaptax.set_learning_rate(state, 0.25)
    assert adaptax.telemetry(changed).keys() == adaptax.telemetry(state).keys()
    if name != "by leaf":
        assert adaptax.learning_rate(changed) == 0.25
