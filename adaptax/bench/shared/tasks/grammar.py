"""Random text from a grammar: a sequence of assignments of nested expressions.

    text → statement text,      statement → name "=" sum ";"
    sum → product | product "+" sum | product "-" sum
    product → atom | atom "*" product
    atom → name | digit | "(" sum ")"

The next character depends on the depth of the brackets and on the open expression, so a
model of pairs of characters predicts it poorly.
"""

import numpy as np

ALPHABET = "abcd0123=+-*();"


def write_text(length: int, seed: int = 0) -> np.ndarray:
    """Write a text of `length` characters, as indices into the alphabet (int32)."""
    generator = np.random.default_rng(seed)
    text = ""
    while len(text) < length:
        text += f"{_one_of('abcd', generator)}={_sum(generator, 0)};"
    return np.array([ALPHABET.index(letter) for letter in text[:length]], np.int32)


def _one_of(letters: str, generator: np.random.Generator) -> str:
    return letters[generator.integers(len(letters))]


def _sum(generator: np.random.Generator, depth: int) -> str:
    text = _product(generator, depth)
    while generator.random() < 0.35:
        text += _one_of("+-", generator) + _product(generator, depth)
    return text


def _product(generator: np.random.Generator, depth: int) -> str:
    text = _atom(generator, depth)
    while generator.random() < 0.25:
        text += "*" + _atom(generator, depth)
    return text


def _atom(generator: np.random.Generator, depth: int) -> str:
    chance = generator.random()
    if depth < 3 and chance < 0.3:
        return f"({_sum(generator, depth + 1)})"
    return _one_of("abcd" if chance < 0.65 else "0123", generator)
