"""Trees of parameters, as lists of the shapes of their leaves."""

from collections.abc import Callable

Shapes = list[tuple[int, ...]]


def transformer(layers: int = 12, width: int = 512, vocabulary: int = 8192) -> Shapes:
    """Return a transformer with separate queries, keys and values, biases and norms."""
    square, wide = (width, width), 4 * width
    attention = [square, (width,)] * 4
    dense = [(width, wide), (wide,), (wide, width), (width,)]
    norm = [(width,), (width,)]
    layer = [*norm, *attention, *norm, *dense]
    return [(vocabulary, width), (1024, width), *layer * layers, *norm]


def resnet50() -> Shapes:
    """Return ResNet-50: convolutions, scales and shifts of norms, and a dense layer."""
    shapes: Shapes = [(7, 7, 3, 64), (64,), (64,)]
    channels = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            outer = 4 * width
            kernels: Shapes = [
                (1, 1, channels, width),
                (3, 3, width, width),
                (1, 1, width, outer),
            ]
            if block == 0:
                kernels.append((1, 1, channels, outer))
            for kernel in kernels:
                shapes += [kernel, kernel[-1:], kernel[-1:]]
            channels = outer
    return [*shapes, (channels, 1000), (1000,)]


TREES: dict[str, Callable[[], Shapes]] = {
    "1 x (20 M,)": lambda: [(20_000_000,)],
    "10 x (2 M,)": lambda: [(2_000_000,)] * 10,
    "transformer": transformer,
    "ResNet-50": resnet50,
    "400 x (64, 64)": lambda: [(64, 64)] * 400,
    "400 x (16,)": lambda: [(16,)] * 400,
    "1000 x (1000,)": lambda: [(1000,)] * 1000,
}
