"""The fast forms equal the native ones: values, gradients, platforms, a network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from adaptax.bench.shared.networks import (
    DigitNetwork,
    convolution,
    max_pool,
    pooled_convolution,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
plain = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": LAYOUT}

SHAPES = [
    ((2, 28, 28, 1), (3, 3, 1, 5)),
    ((3, 7, 5, 1), (3, 3, 1, 2)),
    ((2, 14, 14, 6), (3, 3, 6, 4)),
    ((2, 7, 9, 3), (3, 3, 3, 4)),
    ((2, 8, 5, 2), (3, 3, 2, 1)),
    ((1, 1, 1, 2), (3, 3, 2, 3)),
]

UNSUPPORTED = {
    "stride": {"window_strides": (2, 2)},
    "padding": {"padding": "VALID"},
    "asymmetric padding": {"padding": ((2, 0), (1, 1))},
    "dilated images": {"lhs_dilation": (2, 1), "padding": ((1, 1), (1, 1))},
    "dilated kernel": {"rhs_dilation": (1, 2)},
    "precision": {"precision": jax.lax.Precision.HIGHEST},
    "element type": {"preferred_element_type": jnp.float32},
}


def normal(seed, shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def assert_close(ours, theirs):
    # Relative to the largest entry: a sum that cancels keeps the terms' rounding.
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-6 * scale)


def value_and_gradients(function, *args):
    @jax.jit
    def both(*args):
        value, pull_back = jax.vjp(function, *args)
        return value, pull_back(normal(9, value.shape))

    return both(*args)


def lowered_text(function, *args, platform):
    traced = jax.jit(function).trace(*args)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(("image_shape", "kernel_shape"), SHAPES)
def test_convolution_and_its_gradients_equal_the_native_ones(image_shape, kernel_shape):
    args = normal(0, image_shape), normal(1, kernel_shape)
    ours = value_and_gradients(partial(convolution, **plain), *args)
    theirs = value_and_gradients(partial(jax.lax.conv_general_dilated, **plain), *args)
    assert_close(ours, theirs)


@pytest.mark.parametrize("channels", [1, 4])
def test_convolution_and_pooling_have_forward_derivatives(channels):
    args = normal(0, (2, 6, 6, channels)), normal(1, (3, 3, channels, 3))
    tangents = normal(2, args[0].shape), normal(3, args[1].shape)

    def native(images, kernel):
        convolved = jax.lax.conv_general_dilated(images, kernel, **plain)
        return nnx.max_pool(convolved, (2, 2), (2, 2))

    ours, theirs = (
        jax.jit(partial(jax.jvp, function))(args, tangents)
        for function in (partial(pooled_convolution, **plain), native)
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize("changes", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_other_convolutions_are_the_native_one(changes):
    options = plain | changes
    args = normal(0, (2, 9, 8, 3)), normal(1, (3, 3, 3, 4))
    function = partial(convolution, **options)
    np.testing.assert_array_equal(
        function(*args), jax.lax.conv_general_dilated(*args, **options)
    )
    assert "stablehlo.convolution" in lowered_text(function, *args, platform="cpu")


def test_groups_half_precision_and_other_layouts_are_native():
    native = jax.lax.conv_general_dilated
    images, kernel = normal(0, (2, 8, 8, 4)), normal(1, (3, 3, 2, 4))
    options = plain | {"feature_group_count": 2}
    np.testing.assert_array_equal(
        convolution(images, kernel, **options), native(images, kernel, **options)
    )
    kernel = normal(1, (3, 3, 4, 4))
    half = images.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    np.testing.assert_array_equal(convolution(*half, **plain), native(*half, **plain))
    options = plain | {"dimension_numbers": ("NCHW", "HWIO", "NCHW")}
    images = normal(0, (2, 4, 8, 8))
    np.testing.assert_array_equal(
        convolution(images, kernel, **options), native(images, kernel, **options)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_only_a_cpu_avoids_the_native_operations(channels):
    args = normal(0, (2, 8, 8, channels)), normal(1, (3, 3, channels, 4))
    function = partial(pooled_convolution, **plain)
    for platform, native in (("cpu", False), ("cuda", True), ("tpu", True)):
        text = lowered_text(function, *args, platform=platform)
        assert ("stablehlo.convolution" in text) == native
        assert ("stablehlo.reduce_window" in text) == native


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (1, 7, 9, 2), (2, 2, 2, 1)])
def test_pooling_and_its_gradient_equal_the_native_ones(shape):
    images = normal(0, shape)
    native = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
    ours = value_and_gradients(max_pool, images)
    np.testing.assert_array_equal(ours[0], native(images))
    assert_close(ours, value_and_gradients(native, images))


def test_the_first_of_equal_maxima_has_the_whole_gradient():
    images = np.random.default_rng(0).integers(0, 3, (8, 8, 8, 4))
    images = images.astype(np.float32)
    native = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
    assert_close(
        value_and_gradients(max_pool, images), value_and_gradients(native, images)
    )


def test_networks_map_over_their_parameters():
    images = normal(0, (3, 28, 28, 1))
    members = [nnx.split(DigitNetwork(rngs=nnx.Rngs(seed))) for seed in range(2)]
    graph = members[0][0]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(s for _, s in members))

    def loss(state, images):
        return jnp.sum(nnx.merge(graph, state)(images) ** 2)

    differentiate = jax.value_and_grad(loss)
    alone = jax.jit(differentiate)
    mapped = jax.jit(jax.vmap(differentiate, in_axes=(0, None)))(stacked, images)
    for member, (_, state) in enumerate(members):
        ours = jax.tree.map(lambda leaf, member=member: leaf[member], mapped)
        assert_close(ours, alone(state, images))


def test_the_network_has_50186_parameters():
    state = nnx.state(DigitNetwork(rngs=nnx.Rngs(0)), nnx.Param)
    convolutions = (9 * 1 * 32 + 32) + (9 * 32 * 64 + 64)
    assert optax.tree.size(state) == convolutions + 7 * 7 * 64 * 10 + 10 == 50_186


def test_the_network_equals_its_textbook_form_in_loss_and_gradient():
    network = DigitNetwork(rngs=nnx.Rngs(0))
    graph, state = nnx.split(network)
    images = jnp.abs(normal(1, (16, 28, 28, 1)))
    labels = jnp.arange(16) % 10

    def textbook(network, images):
        for layer in (network.convolution1, network.convolution2):
            kernel, bias = layer.kernel[...], layer.bias[...]
            convolved = jax.lax.conv_general_dilated(images, kernel, **plain)
            images = nnx.relu(convolved + bias.reshape(1, 1, 1, -1))
            images = nnx.max_pool(images, (2, 2), (2, 2))
        return network.dense(images.reshape(images.shape[0], -1))

    def loss(apply, state):
        logits = apply(nnx.merge(graph, state), images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    fast, slow = (
        jax.jit(jax.value_and_grad(partial(loss, apply)))(state)
        for apply in (DigitNetwork.__call__, textbook)
    )
    assert_close(fast, slow)
