"""The learning-rate-free estimates, and what spoils them elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import reference_of
from steps import PARAMS, gradients, minimize

import adaptax

ESTIMATES = {
    "adgd": adaptax.adgd,
    "dog": adaptax.dog,
    "l_dog": adaptax.l_dog,
    "dowg": adaptax.dowg,
}


@pytest.fixture(params=ESTIMATES)
def estimate(request):
    return ESTIMATES[request.param]


def test_the_sum_of_dog_goes_on_past_256_in_bfloat16():
    rate, ones = adaptax.dog(), jnp.ones((), jnp.bfloat16)

    def step(state, _):
        return rate.update(ones, state, ones)[1], None

    state, _ = jax.lax.scan(step, rate.init(ones), length=300)
    assert state.sum_sq == 300


def test_one_gradient_that_is_nan_does_not_spoil_an_estimate(estimate):
    rate = estimate()
    clean, state = gradients(3), rate.init(PARAMS)
    expected = rate.init(PARAMS)
    poison = {**clean[1], "scalar": np.float32(np.nan)}
    for update in clean:
        _, expected = rate.update(update, expected, PARAMS)
    for update in (clean[0], poison, *clean[1:]):
        moved, state = rate.update(update, state, PARAMS)
        if update is poison:
            assert not any(leaf.any() for leaf in jax.tree.leaves(moved))
    assert state.skipped == 1
    assert state.learning_rate == expected.learning_rate > 0


def test_a_first_gradient_of_zero_delays_an_estimate_and_no_more(estimate):
    rate = estimate()
    zeros, state = jax.tree.map(jnp.zeros_like, PARAMS), rate.init(PARAMS)
    expected = rate.init(PARAMS)
    _, state = rate.update(zeros, state, PARAMS)
    for update in gradients(3):
        _, state = rate.update(update, state, PARAMS)
        _, expected = rate.update(update, expected, PARAMS)
    assert state.learning_rate == expected.learning_rate > 0


def test_the_state_of_an_estimate_shares_no_buffer_with_the_parameters(estimate):
    optimizer = adaptax.gradient_descent(estimate())
    step = jax.jit(
        lambda params, state: optimizer.update(params, state, params),
        donate_argnums=(0, 1),
    )
    params = jax.tree.map(jnp.array, PARAMS)
    updates, state = step(params, optimizer.init(params))
    step(updates, state)  # Optax's DoG: "Attempt to donate the same buffer twice"


def test_dog_finds_a_rate_at_any_scale_of_the_loss():
    target = jnp.asarray([3.0, -2.0])
    ends = []
    for scale in (1e-4, 1.0, 1e4):
        optimizer = adaptax.gradient_descent(adaptax.dog(eps=0.0))

        def loss(w, scale=scale):
            return scale * jnp.sum(jnp.square(w - target))

        w, *_ = minimize(optimizer, loss, jnp.zeros(2), steps=200)
        ends.append(w)
        np.testing.assert_allclose(w, target, rtol=1e-2)
    np.testing.assert_allclose(ends[0], ends[2], rtol=1e-3)


def test_each_group_of_a_partition_has_an_estimate_of_its_own(estimate):
    def optimizer():
        return adaptax.gradient_descent(estimate())

    labels = {"matrix": "one", "scalar": "other"}
    both = optax.partition({"one": optimizer(), "other": optimizer()}, labels)
    given = gradients(3)
    expected = {}
    for name in PARAMS:
        alone, state = optimizer(), optimizer().init(PARAMS[name])
        params = PARAMS[name]
        for update in given:
            moved, state = alone.update(update[name], state, params)
            params = params + moved
        expected[labels[name]] = adaptax.learning_rate(state)
    params, state = PARAMS, both.init(PARAMS)
    for update in given:
        moved, state = both.update(update, state, params)
        params = optax.apply_updates(params, moved)
    assert adaptax.learning_rate(state) == expected


def test_l_dog_is_dog_in_each_leaf_and_reads_as_the_ratio_of_norms():
    given = gradients(1)[0]
    updates, state = (rate := adaptax.l_dog()).update(given, rate.init(PARAMS), PARAMS)
    for name in PARAMS:
        alone = adaptax.dog()
        wanted, _ = alone.update(given[name], alone.init(PARAMS[name]), PARAMS[name])
        np.testing.assert_allclose(updates[name], wanted, rtol=1e-6)
    norms = [
        np.sqrt(sum((x**2).sum() for x in tree.values())) for tree in (updates, given)
    ]
    np.testing.assert_allclose(state.learning_rate, norms[0] / norms[1], rtol=1e-6)


def test_the_distance_is_measured_from_the_parameters_of_the_first_step(estimate):
    rate = estimate()
    loaded = jax.tree.map(lambda x: x + 100, PARAMS)
    first, other = rate.init(PARAMS), rate.init(loaded)
    update = gradients(1)[0]
    _, one = rate.update(update, first, loaded)
    _, two = rate.update(update, other, loaded)
    assert one.learning_rate == two.learning_rate


CURVATURES = np.linspace(0.1, 1.0, 6)


def bowl(w):
    return jnp.sum(jnp.asarray(CURVATURES, w.dtype) * jnp.square(w)) / 2


class Downhill:
    """The gradients of `bowl` along a reference's path; `follow` records its points."""

    def __init__(self, w, steps):
        self.w, self.steps = w, steps

    def __iter__(self):
        return (CURVATURES * self.w for _ in range(self.steps))

    def follow(self, reference, **arguments):
        for point in reference(self.w, self, None, **arguments):
            self.w = point
            yield point


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adgd", {"initial": 0.1}),
        ("adgd", {"initial": 0.1, "tight": True}),
        ("adgd2", {"initial": 0.1}),
        ("cdat", {"sigma": 1.5, "decay": 0.8, "eps": 1e-3}),
        ("dog", {"reps_rel": 0.01, "eps": 1e-3}),
    ],
)
def test_on_gradients_that_belong_together_an_estimate_is_its_reference(
    name, arguments
):
    optimizer = adaptax.gradient_descent(getattr(adaptax, name)(**arguments))
    with jax.enable_x64(True):
        ours = path_of(optimizer, bowl, jnp.ones(6), steps=30)
    known = {"curvatures": CURVATURES} if name == "cdat" else {}
    reference, downhill = reference_of(name, "estimate"), Downhill(np.ones(6), 30)
    expected = downhill.follow(reference, **arguments, **known)
    np.testing.assert_allclose(ours, np.stack(list(expected)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tight", [False, True])
def test_adgd_finds_a_good_rate_from_one_that_is_a_million_times_too_small(tight):
    optimizer = adaptax.gradient_descent(adaptax.adgd(tight=tight))
    w, _, _, rates = minimize(optimizer, bowl, jnp.ones(6), steps=60)
    assert bowl(w) < 1e-4 * bowl(jnp.ones(6))
    assert 0.5 < rates[-1] < 20  # 1 / curvature


def path_of(optimizer, loss, w, steps):
    def step(carry, _):
        w, state = carry
        slope = jax.grad(loss)
        updates, state = optimizer.update(slope(w), state, w, grad_fn=slope)
        return (w + updates, state), w + updates

    return jax.lax.scan(step, (w, optimizer.init(w)), length=steps)[1]


def test_cdat_follows_the_curvature_through_any_direction():
    optimizer = optax.chain(
        adaptax.scale_by_adam(), adaptax.cdat(sigma=1.0), optax.scale(-1.0)
    )
    path = path_of(optimizer, bowl, jnp.ones(6), steps=80)
    assert bowl(path[-1]) < 1e-3 * bowl(jnp.ones(6))


def test_cdat_leaves_out_what_is_not_trained():
    params = {"w": jnp.asarray([3.0, 1.0]), "count": jnp.asarray(2), "none": None}

    def slope(params):
        return {
            "w": 4 * params["w"],
            "count": np.zeros((), jax.dtypes.float0),
            "none": None,
        }

    rate = adaptax.cdat(sigma=1.0, eps=0.0)
    updates, _ = rate.update(slope(params), rate.init(params), params, grad_fn=slope)
    np.testing.assert_allclose(updates["w"], params["w"], rtol=1e-6)
