"""The catalogue: every named method, which tests, docs and command lines read.

It is made of the families' folders: each file there that has a `METHOD` is an entry, by
the name of the file, and nothing is to be added here. The conformance tests then hold
it to the contract, and the command lines know its name.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Literal

import optax

from adaptax import controllers, estimates, optimizers, schedules, wrappers
from adaptax._core.methods import Method

Family = Literal["optimizer", "schedule", "controller", "estimate", "wrapper"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry(Method):
    """One named method.

    Attributes:
        name: Its public name, that of `factory` and of its file.
        family: "optimizer", "schedule", "controller", "estimate" or "wrapper": the
            folder of its file, in the singular.
        factory: The public function that makes it.
        direction: The `scale_by_` form, if there is one.
        hyperparameters: An example value of every numeric argument; for a wrapper with
            the `learning_rate` of the momentum that it is put around.
        source: Authors and year, as in the module's docstring.
        variants: Structural arguments that change the algorithm, each tested as well.
        needs: What `update` must be given: "params", "value", "grad", "value_fn",
            "grad_fn", "micro_norms", "key".
        differs: How it differs from Optax, or that Optax does not have it.
        over: For a schedule: `over(rate, total_steps)` spreads it over a training run.
        usual_rate: For an optimizer: a rate that trains most small networks. If it
            infers its rate or has none: the usual factor of its steps.
        rate: How its updates follow from `adaptax.learning_rate(state)`. "factor": they
            are that times a direction that does not depend on it. "inferred": the
            method makes the rate itself, and may weigh its sums by it. "path":
            likewise, but a step is the difference of two points on a path that is
            averaged or scaled as a whole, which limits its precision. "none": there is
            none.
    """

    name: str
    family: Family
    factory: Callable[..., optax.GradientTransformation]
    direction: Callable[..., optax.GradientTransformation] | None = None

    @property
    def has_seat(self) -> bool:
        """Whether the factory takes a `learning_rate`."""
        return "learning_rate" in self.hyperparameters

    @property
    def wraps_rate(self) -> bool:
        """Whether it is a wrapper of a rate, and not of a whole optimizer."""
        takes = inspect.signature(self.factory).parameters
        return self.family == "wrapper" and "inner" not in takes

    def make(self, **arguments: Any) -> optax.GradientTransformation:
        """Make the thing itself from its example values, some of them replaced.

        A wrapper is put around momentum of its `learning_rate`, unless an `inner` is
        given; a wrapper of a rate is put into the seat of momentum.
        """
        arguments = {**self.hyperparameters, **arguments}
        if self.wraps_rate:
            return optimizers.momentum(self.factory(**arguments))
        if self.family == "wrapper":
            inner = optimizers.momentum(arguments.pop("learning_rate"))
            arguments.setdefault("inner", inner)
        return self.factory(**arguments)

    def optimizer(self, **arguments: Any) -> optax.GradientTransformation:
        """Make a whole optimizer of it: a rate is put behind gradient descent."""
        made = self.make(**arguments)
        if self.family in ("optimizer", "wrapper"):
            return made
        if self.family == "controller":  # most of them only multiply another rate
            return optimizers.gradient_descent([1.0, made])
        return optimizers.gradient_descent(made)


def find(name: str, family: Family) -> Entry:
    """Look a method up by its name.

    Raises:
        ValueError: If there is none; the message lists those there are.
    """
    known = {entry.name: entry for entry in ENTRIES if entry.family == family}
    if name not in known:
        listed = ", ".join(sorted(known))
        raise ValueError(f"there is no {family} {name!r}. There are: {listed}.")
    return known[name]


def _entries(folder: ModuleType, family: Family) -> Iterable[Entry]:
    """Yield an entry for each file of a family that has a method."""
    for file in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{file.name}")
        if hasattr(module, "METHOD"):
            yield Entry(
                name=file.name,
                family=family,
                factory=getattr(module, file.name),
                direction=getattr(module, f"scale_by_{file.name}", None),
                **vars(module.METHOD),
            )


_FOLDERS: dict[Family, ModuleType] = {
    "optimizer": optimizers,
    "schedule": schedules,
    "controller": controllers,
    "estimate": estimates,
    "wrapper": wrappers,
}

ENTRIES: tuple[Entry, ...] = tuple(
    entry for family, folder in _FOLDERS.items() for entry in _entries(folder, family)
)
