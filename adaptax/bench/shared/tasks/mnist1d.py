"""MNIST-1D: synthetic signals of ten classes, a small substitute for MNIST.

Each of ten templates of 12 points is padded with 36 to 60 zeros and stretched to 72
points; scaled by 0.8 to 1.2; rolled by up to 47 points. Smooth noise is added where it
is 0, and white noise everywhere. Then it is sheared and sampled at 40 points. The whole
set is normalized to mean 0 and variance 1.

Source: Greydanus & Kobak (2024), "Scaling Down Deep Learning with MNIST-1D", ICML,
with their parameters. The random numbers differ from the authors' file.
"""

import functools

import numpy as np

TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
LENGTH = 40
_STRETCHED = 72
# Made once: they take longer than the rest of a signal's computation.
_LINE = np.linspace(-0.5, 0.5, _STRETCHED)
_MIRRORED = np.pad(np.arange(_STRETCHED), 8, "symmetric")
_WEIGHTS = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
_WEIGHTS /= _WEIGHTS.sum()


def mnist1d(size: int = 5000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Generate signals (size, 40) float32 and their labels (size,) int32, shuffled.

    Args:
        size: The number of examples; each label has a tenth of them.
        seed: The seed of all random numbers.
    """
    generator = np.random.default_rng(seed)
    templates = np.array(TEMPLATES)
    templates -= templates.mean(axis=1, keepdims=True)
    templates /= templates.std(axis=1, keepdims=True)
    templates = (templates - templates[:, :1]) / 6
    labels = generator.permutation(np.arange(size) % 10).astype(np.int32)
    signals = np.stack([_disturbed(templates[k], generator) for k in labels])
    signals = (signals - signals.mean()) / signals.std()
    return signals.astype(np.float32), labels


def _disturbed(template: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    padding = np.zeros(generator.integers(36, 61))
    # The small number distinguishes zeros of the template from the padding.
    signal = _sampled(np.concatenate([template + 1e-8, padding]), _STRETCHED)
    signal *= 1 + 0.4 * (generator.random() - 0.5)
    signal = np.roll(signal, generator.integers(48))
    smooth = _smoothed(0.25 * generator.normal(size=_STRETCHED))
    signal = np.where(signal != 0, signal, smooth)
    signal += 0.02 * generator.normal(size=_STRETCHED)
    slope = 0.75 * (generator.random() - 0.5)
    return _sampled(signal - slope * _LINE, LENGTH)


def _sampled(signal: np.ndarray, points: int) -> np.ndarray:
    return np.interp(_places(points), _places(len(signal)), signal)


@functools.cache
def _places(points: int) -> np.ndarray:
    return np.linspace(0, 1, points)


def _smoothed(noise: np.ndarray) -> np.ndarray:
    """Filter by a Gaussian of width 2; the noise is mirrored at its ends."""
    return np.convolve(noise[_MIRRORED], _WEIGHTS, "valid")
