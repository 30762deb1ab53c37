"""The loops of the page about range tests are what it says, as they stand."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "range_test.md"
SECTIONS = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
LOOPS = {
    "Flax Linen": ("linen", ["state"]),
    "Flax NNX": ("nnx", ["model", "optimizer"]),
    "Equinox": ("eqx", ["network", "opt_state"]),
    "A plain loop": ("plain", ["params"]),
}


def code_of(title):
    """Return a section's code before its test, and that of the test."""
    section = next(text for text in SECTIONS if text.startswith(title))
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    before, test = re.split(r"^(?=test = )", "\n".join(blocks), flags=re.MULTILINE)
    return before, test


def arrays_of(names):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(names)]


@pytest.mark.parametrize("title", LOOPS)
def test_a_loop_finds_a_rate_and_leaves_all_as_it_was(title):
    if title == "Equinox":
        pytest.importorskip("equinox")
    kind, kept = LOOPS[title]
    before, test = code_of(title)
    names, traces = {}, []
    with jax.numpy_dtype_promotion("standard"):  # Flax and Optax promote
        exec(re.search(r"```python\n(.*?)```", SECTIONS[0], re.DOTALL)[1], names)
        mean_square = names["mean_square"]
        names["mean_square"] = lambda *args: traces.append(kind) or mean_square(*args)
        exec(before, names)
        trained = [names[name] for name in kept]
        old = arrays_of(trained)
        exec(test, names)
    assert all(names[name] is now for name, now in zip(kept, trained, strict=True))
    for was, now in zip(old, arrays_of(trained), strict=True):
        assert was.tobytes() == now.tobytes()
    found = names[f"{kind}_found"]
    assert found.status == "ok"
    assert found.learning_rates[0] < found.suggestion < found.learning_rates[-1]
    losses = found.losses[np.isfinite(found.losses)]
    assert len(losses) > 50
    assert losses.min() < 0.7 * losses[0]
    assert traces == [kind]


@pytest.mark.parametrize("title", LOOPS)
def test_a_loop_has_at_most_six_lines_besides_the_users_step(title):
    _, test = code_of(title)
    lines = [line for line in test.splitlines() if line]
    added = [line for line in lines if " = train_" not in line]
    assert len(added) <= 6
