"""Contracts: what the tests know about a method beside its entry in the catalogue.

The test file of a method, `tests/<family>s/test_<name>.py`, has its `CONTRACT`.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adaptax.catalog import Entry, Family, find

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Goal:
    """What a method must reach on a toy problem, started from its example values.

    The objective must fall to `tolerance` times its first value within `steps` steps;
    `hyperparameters` replace some of the example values.
    """

    steps: int
    tolerance: float
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contract:
    """What a method is held to.

    Attributes:
        reference: Its equations as a plain NumPy loop, slow and obvious. An optimizer's
            takes a first point (a vector), the gradient of each step (steps ×
            coordinates), the loss of each step and the arguments of the factory, and
            yields the point after each step. One that infers its rate takes a learning
            rate for all steps or for each, and yields the point and the rate it had. A
            schedule's takes a step and returns the rate. A controller's takes the
            metric and the gradient of each step and yields the scale applied at it; one
            that needs the parameters receives the `first`, from which it goes along
            −scale times the gradient. An estimate's is that of an optimizer, namely of
            gradient descent with it, and so is a wrapper's, namely of momentum with the
            wrapper around it. It computes in float64, but for scales, which are float32
            as the library keeps them. Averages are the biased ones of the papers, in
            contrast to the library, and where the rate is inferred, a step at a
            learning rate of 0 is none.
        elementwise: Whether each coordinate is treated alone.
        by_leaf: Whether it looks at each leaf as such, as by norms of leaves, so that
            it cannot be packed; or the name of the argument that makes it do so.
        regroups: For a wrapper: whether it puts leaves together.
        static: The numbers among the arguments that are structural, such as lengths of
            arrays.
        variant_needs: What it must be given instead of `needs`, by the value of an
            argument of a variant.
        breaks: Points of the contract that it need not keep, with the reason.
        optax_forms: The functions of Optax whose users look for it.
        optax_twin: Makes the same thing from Optax with the example values.
        steady: For a wrapper: arguments that leave the steps alone while losses fall;
            `None` where none do.
        calls: For a wrapper: how many calls it takes to a step.
        goals: The toy problems that it solves, by name.
    """

    reference: Callable[..., Any]
    elementwise: bool = False
    by_leaf: bool | str = False
    regroups: bool = False
    static: frozenset[str] = frozenset()
    variant_needs: Mapping[Any, frozenset[str]] = field(default_factory=dict)
    breaks: Mapping[str, str] = field(default_factory=dict)
    optax_forms: tuple[str, ...] = ()
    optax_twin: Callable[[], Any] | None = None
    steady: Mapping[str, Any] | None = field(default_factory=dict)
    calls: int = 1
    goals: Mapping[str, Goal] = field(default_factory=dict)


def file_of(entry: Entry) -> Path:
    """Return where the contract of an entry stands."""
    return TESTS / f"{entry.family}s" / f"test_{entry.name}.py"


def contract_of(entry: Entry) -> Contract:
    """Import the contract of an entry from its test file."""
    return _contract(file_of(entry))


@functools.cache
def _contract(file: Path) -> Contract:
    where = file.relative_to(TESTS.parent)
    assert file.exists(), f"there is no {where} with a CONTRACT = Contract(...)"
    module = importlib.import_module(file.stem)  # `conftest.py` has its folder searched
    found = Path(module.__file__ or "")
    assert found.samefile(file), f"{found} has the name of {where}"
    contract = getattr(module, "CONTRACT", None)
    assert isinstance(contract, Contract), f"{where} has no CONTRACT = Contract(...)"
    return contract


def reference_of(name: str, family: Family) -> Callable[..., Any]:
    """Return the NumPy loop of a method."""
    return contract_of(find(name, family)).reference
