"""The guide for contributors: its skeletons work, and the parts it names exist."""

import importlib.util
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from conformance.cases import Case
from conformance.contract import POINTS
from conformance.contracts import Contract, Goal

import adaptax._core
from adaptax._core.methods import Method
from adaptax.catalog import Entry, Family

PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"
TEXT = PAGE.read_text("utf-8")
MODULES = re.findall(r'^```python\n(""".*?)^```$', TEXT, re.DOTALL | re.MULTILINE)
CHECKED = ("docstring", "goals", "learning_rate", "optax", "reference")
"""Points of the contract: among them a quadratic, trained in a scan under jit."""


def hyperbolic(step, *, initial, half_life):
    return initial / (1 + step / half_life)


def halve_on_rise(values, gradients, *, factor, decay, min_scale):
    scale, average = 1.0, 0.0
    for t, value in enumerate(values):
        if t > 0 and value > average / (1 - decay**t):
            scale = max(scale * factor, min_scale)
        average = decay * average + (1 - decay) * value
        yield scale


def adagrad_norm(w, gradients, values, *, initial, eps):
    total = 0.0
    for g in gradients:
        total += np.sum(g**2)
        w = w - initial / np.sqrt(total + eps) * g
        yield w


def restart_every(w, gradients, values, *, learning_rate, every):
    m = np.zeros_like(w)
    for t, g in enumerate(gradients):
        m = (0.9 * m if t % every else 0.0) + 0.1 * g
        w = w - learning_rate * m
        yield w


SKELETONS = {
    "yogi": ("optimizer", None, 300),
    "hyperbolic": ("schedule", hyperbolic, 200),
    "halve_on_rise": ("controller", halve_on_rise, 200),
    "adagrad_norm": ("estimate", adagrad_norm, 200),
    "restart_every": ("wrapper", restart_every, 200),
}
"""By name: family, reference, and steps to train. That of yogi is on the page."""


def contract_on_the_page():
    (text,) = re.findall(
        r"^```python\n(from conformance.*?)^```$", TEXT, re.DOTALL | re.MULTILINE
    )
    names = {"np": np}
    exec(text, names)
    return names["CONTRACT"]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Return the skeletons, imported as modules, as cases of the contract."""
    folder, found = tmp_path_factory.mktemp("skeletons"), {}
    for text in MODULES:
        name = re.findall(r"^def (\w+)", text, re.MULTILINE)[-1]
        family, reference, steps = SKELETONS[name]
        file = folder / f"{name}.py"
        file.write_text(text, "utf-8")
        spec = importlib.util.spec_from_file_location(f"skeleton_{name}", file)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        entry = Entry(
            name=name,
            family=family,
            factory=getattr(module, name),
            direction=getattr(module, f"scale_by_{name}", None),
            **vars(module.METHOD),
        )
        contract = contract_on_the_page()
        if reference is not None:
            contract = Contract(reference, goals={"quadratic": Goal(steps, 1e-2)})
        found[name] = Case(entry, other_contract=contract)
    yield found
    for name in found:
        del sys.modules[f"skeleton_{name}"]


def test_every_family_has_a_skeleton(cases):
    assert {case.entry.family for case in cases.values()} == set(get_args(Family))


@pytest.mark.parametrize("point", CHECKED)
@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_keeps_the_contract(name, point, cases):
    POINTS[point](cases[name])


def test_the_parts_that_the_guide_names_exist():
    table = TEXT.partition("### Which part of `_core`")[2].partition("\n### ")[0]
    names = re.findall(r"`(?!jnp)([a-z_]+)\.(?!py)([a-z_]+)", table)
    assert len(names) > 40
    for module, name in names:
        home = importlib.import_module(f"adaptax._core.{module}")
        assert hasattr(home, name), f"{module}.{name}"
    named = re.findall(r"`([a-z_]+)\.([a-z_]+)\([^`)]*?(\w+)=", table)
    assert named
    for module, name, argument in named:
        function = getattr(importlib.import_module(f"adaptax._core.{module}"), name)
        assert argument in inspect.signature(function).parameters, argument


def test_what_the_families_are_made_with_exists():
    table = TEXT.partition("| family |")[2].partition("\n\n")[0]
    made_with = [row.split(" | ")[2] for row in table.splitlines()[2:]]
    names = re.findall(r"`(\w+)`", " ".join(made_with))
    assert len(names) > 6
    for name in names:
        homes = pkgutil.iter_modules(adaptax._core.__path__, "adaptax._core.")
        modules = (importlib.import_module(home.name) for home in homes)
        assert any(inspect.isfunction(vars(one).get(name)) for one in modules), name


def test_the_files_that_the_guide_names_exist():
    names = set(re.findall(r"`(\w+\.py)`", TEXT.partition("## Style")[0]))
    assert len(names) > 10
    for name in names:
        homes = [PAGE.parents[1] / "adaptax", PAGE.parents[1] / "tests"]
        assert any(list(home.rglob(name)) for home in homes), name


def test_every_field_of_a_method_and_of_its_contract_is_explained():
    tables = TEXT.partition("### Method and contract")[2].partition("\n### ")[0]
    for kind, table in zip(
        (Method, Contract), tables.split("\n| field ")[1:], strict=True
    ):
        rows = re.findall(r"^\| ([^|]*)\|", table, re.MULTILINE)
        fields = re.findall(r"`(\w+)`", "\n".join(rows))
        assert set(kind.__dataclass_fields__) == set(fields)
