"""The page on streams: its code runs, as far as the loaders are installed."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest

import adaptax

PAGE = Path(__file__).parents[1] / "docs" / "streams.md"
OPTIONS = {"strategy": "map", "progress": False}


def blocks_of(title):
    """Return the code of a section, or of the page before its first section."""
    sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.M)
    (section,) = (one for one in sections if one.startswith(title))
    return re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)


@pytest.fixture
def run(monkeypatch):
    """Return what runs the code of a section after that of the beginning."""
    sweep = functools.partial(adaptax.sweep, **OPTIONS)
    monkeypatch.setattr(adaptax, "sweep", sweep)

    def run(title):
        names = {}
        for block in blocks_of("# Streams") + (blocks_of(title) if title else []):
            exec(compile(block, str(PAGE), "exec"), names)
        return names

    return run


@pytest.mark.parametrize(
    ("title", "package"),
    [("PyTorch", "torch"), ("Grain", "grain"), ("Evaluation", "jax")],
)
def test_the_code_of_a_section_trains(title, package, run):
    pytest.importorskip(package)
    found = run(title)["found"]
    assert found.best["learning_rate"] == pytest.approx(0.1)
    assert found.scores.min() < 1e-3
    assert np.isfinite(found.losses).all()
