"""The digit network of the benchmarks, in forms that XLA compiles well on a CPU.

Inside `lax.scan` on a CPU, XLA's own convolution is 20 to 40 times slower than its
matrix product, and the gradient of `reduce_window` is slow too. Hence `convolution` and
`max_pool` have special forms for CPUs; GPU and TPU use the native operations. These
alternatives were slower: shifted slices as columns of one matrix product (im2col),
three products by row, 4×4 patches for 2×2 outputs, batch-last layouts and 16 batched
products. A training step takes 0.55 of the time with im2col and 0.75 of the time of
eager PyTorch, with these forms:

* Several channels: Winograd's F(2×2, 3×3), 16 products with 4/9 of the multiplications.
  The rounding error is about 1e-6.
* One channel: nine multiply-adds, which XLA fuses into the following pooling, so that
  the large convolved image is never stored.
* Pooling precedes the bias and the ReLU. Both are monotone, so they commute with the
    maximum. A bias before the pooling prevents the fusion and costs 1.5 times as much.

They can be differentiated in forward and reverse mode, and batched with `vmap`.

Source: Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks", CVPR,
section 4.1.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def convolution(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """Convolve as `jax.lax.conv_general_dilated` does, fast on a CPU for 3×3 kernels.

    The fast form requires stride 1, `SAME` padding, no dilation, one group, NHWC images
    and HWIO kernels in float32 or float64, and no further options. Other arguments and
    other platforms get the native convolution. The platform is chosen when the program
    is lowered, so a program may be compiled for several.

    Args:
        lhs: images (N, H, W, C).
        rhs: kernel (3, 3, C, K).
        window_strides: as in `jax.lax.conv_general_dilated`, as all following ones.
        padding: `"SAME"` or pairs.
        lhs_dilation: dilation of the images.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: layout.
        feature_group_count: groups of channels.
        **options: `batch_group_count`, `precision`, `preferred_element_type` and
            `out_sharding`. Any that is set leads to the native convolution.
    """
    native = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        **options,
    )
    plain = (
        _has_fast_layout(lhs, rhs, dimension_numbers)
        and tuple(window_strides) == (1, 1)
        and _pads_by_one(padding)
        and all(d is None or tuple(d) == (1, 1) for d in (lhs_dilation, rhs_dilation))
        and feature_group_count == options.get("batch_group_count", 1) == 1
        and all(v is None for k, v in options.items() if k != "batch_group_count")
    )
    if not plain:
        return native(lhs, rhs)
    fast = _convolve_one_channel if lhs.shape[3] == 1 else _convolve_winograd
    return lax.platform_dependent(lhs, rhs, cpu=fast, default=native)


def _has_fast_layout(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any) -> bool:
    if lhs.ndim != 4 or rhs.ndim != 4 or lhs.dtype != rhs.dtype:
        return False
    given, wanted = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers)
        for numbers in (dimension_numbers, ("NHWC", "HWIO", "NHWC"))
    )
    return (
        given == wanted
        and lhs.dtype in (jnp.float32, jnp.float64)
        and rhs.shape[:3] == (3, 3, lhs.shape[3])
    )


def _pads_by_one(padding: str | Sequence[tuple[int, int]]) -> bool:
    if isinstance(padding, str):
        return padding.upper() == "SAME"
    return [tuple(pair) for pair in padding] == [(1, 1), (1, 1)]


@jax.custom_jvp
def _convolve_one_channel(images: jax.Array, kernel: jax.Array) -> jax.Array:
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = kernel.reshape(3, 3, 1, 1, 1, -1)
    terms = [
        padded[:, i : i + height, j : j + width] * taps[i, j]
        for i in range(3)
        for j in range(3)
    ]
    return reduce(jnp.add, terms)


@_convolve_one_channel.defjvp
def _differentiate_convolution(primals, tangents):
    # As a matrix product, since the transpose of the sum above is nine slow reductions.
    (images, kernel), (images_dot, kernel_dot) = primals, tangents
    by_images = _multiply_columns(images_dot, kernel)
    by_kernel = _multiply_columns(images, kernel_dot)
    return _convolve_one_channel(images, kernel), by_images + by_kernel


def _multiply_columns(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve one-channel images by one product with nine rows of shifted images."""
    count, height, width, _ = images.shape
    padded = jnp.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)))
    rows = [
        padded[:, i : i + height, j : j + width].reshape(-1)
        for i in range(3)
        for j in range(3)
    ]
    product = jnp.stack(rows).T @ kernel.reshape(9, -1)
    return product.reshape(count, height, width, -1)


def _convolve_winograd(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for every 2×2 output tile and its 4×4 input d."""
    count, height, width, channels = images.shape
    rows, columns, features = -(-height // 2), -(-width // 2), kernel.shape[3]
    vertical, horizontal = (1, 1 + height % 2), (1, 1 + width % 2)
    padded = jnp.pad(images, ((0, 0), vertical, horizontal, (0, 0)))
    tiles = [
        [
            padded[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2]
            for j in range(4)
        ]
        for i in range(4)
    ]
    tiles = _on_both_sides(_transform_input, tiles)
    taps = [[kernel[i, j] for j in range(3)] for i in range(3)]
    taps = _on_both_sides(_transform_kernel, taps)
    products = [
        [tiles[i][j].reshape(-1, channels) @ taps[i][j] for j in range(4)]
        for i in range(4)
    ]
    shape = (count, rows, columns, features)
    outputs = _on_both_sides(_transform_output, products)
    lines = [jnp.stack([y.reshape(shape) for y in row], axis=3) for row in outputs]
    result = jnp.stack(lines, axis=2).reshape(count, 2 * rows, 2 * columns, features)
    return result[:, :height, :width]


def _on_both_sides(transform, block: list[list[jax.Array]]) -> list[list[jax.Array]]:
    """Apply a transform of lists to each row of a block and then to each column."""
    rows = [transform(*row) for row in block]
    columns = [transform(*column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _transform_input(a, b, c, d):
    return a - c, b + c, c - b, b - d


def _transform_kernel(a, b, c):
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _transform_output(a, b, c, d):
    return a + b + c, b - c - d


def max_pool(images: jax.Array) -> jax.Array:
    """Take the maximum of each 2×2 window of images (N, H, W, C).

    An odd last row or column is dropped. The gradient goes to the first of equal maxima
    in a window. Platforms other than the CPU use `flax.nnx.max_pool`.
    """
    native = partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
    return lax.platform_dependent(images, cpu=_max_pool_windows, default=native)


def _max_pool_windows(images: jax.Array) -> jax.Array:
    count, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    whole = images[:, : 2 * rows, : 2 * columns]
    return _maximum_in_windows(whole.reshape(count, rows, 2, columns, 2, channels))


@jax.custom_jvp
def _maximum_in_windows(windows: jax.Array) -> jax.Array:
    return _maximum_and_place(windows)[0]


@_maximum_in_windows.defjvp
def _differentiate_maximum(primals, tangents):
    (windows,), (windows_dot,) = primals, tangents
    maximum, place = _maximum_and_place(windows)
    places = jnp.arange(4, dtype=place.dtype).reshape(1, 1, 2, 1, 2, 1)
    chosen = place[:, :, None, :, None] == places
    return maximum, jnp.where(chosen, windows_dot, 0).sum((2, 4))


def _maximum_and_place(windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the maximum of each window and its first position, from 0 to 3."""
    a, b, c, d = (windows[:, :, i, :, j] for i in (0, 1) for j in (0, 1))
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    # A comparison with the maximum could fail: XLA may compute the two sides in
    # separate kernels, which round differently.
    in_upper = jnp.where(b > a, jnp.float32(1), jnp.float32(0))
    in_lower = jnp.where(d > c, jnp.float32(9), jnp.float32(4))
    square = jnp.where(lower > upper, in_lower, in_upper)
    # XLA regards the root as expensive and stores it. Otherwise it would fuse the whole
    # convolution into each of the 16 uses.
    return jnp.maximum(upper, lower), lax.stop_gradient(jnp.sqrt(square))


def pooled_convolution(*args: Any, **options: Any) -> jax.Array:
    """Convolve, then pool: `max_pool(convolution(...))`.

    The maximum commutes with adding a bias. Hence an `nnx.Conv` with this function as
    its `conv_general_dilated` equals a convolution with bias and then pooling.
    """
    return max_pool(convolution(*args, **options))


class DigitNetwork(nnx.Module):
    """Two 3×3 convolutions (32, 64) with 2×2 pooling and ReLU, then a dense layer."""

    def __init__(self, *, rngs: nnx.Rngs):
        """Draw the 50,186 parameters."""
        layer = partial(
            nnx.Conv,
            kernel_size=(3, 3),
            conv_general_dilated=pooled_convolution,
            rngs=rngs,
        )
        self.convolution1 = layer(1, 32)
        self.convolution2 = layer(32, 64)
        self.dense = nnx.Linear(7 * 7 * 64, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images (N, 28, 28, 1) to logits (N, 10)."""
        hidden = nnx.relu(self.convolution1(images))
        hidden = nnx.relu(self.convolution2(hidden))
        return self.dense(hidden.reshape(hidden.shape[0], -1))


def digit_network() -> tuple[nnx.GraphDef, Callable[[jax.Array], Any]]:
    """Return the network's graph, and a function of a key that draws its parameters."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: DigitNetwork(rngs=nnx.Rngs(0))))

    def init(key):
        return nnx.to_pure_dict(nnx.state(DigitNetwork(rngs=nnx.Rngs(key))))

    return graph, init
