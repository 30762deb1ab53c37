"""What an editor completes: the names of modes are types, and refused where wrong."""

import inspect
import typing
from types import UnionType

import pytest

import adaptax
from adaptax import catalog, schedules, spaces

FREE = {"name", "monitor", "checkpoint"}
"""Arguments that take any text: what is listened to, names and folders."""

FUNCTIONS = {
    name: value
    for module in (adaptax, schedules, spaces)
    for name, value in vars(module).items()
    if inspect.isfunction(value) and value.__module__ != "adaptax._core.checks"
}


def kinds(annotation):
    """List the members of a union, or the annotation itself."""
    united = typing.get_origin(annotation) in (typing.Union, UnionType)
    return typing.get_args(annotation) if united else (annotation,)


def modes(function):
    """Return the arguments that take one of some names, with the names."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        for kind in kinds(parameter.annotation):
            if typing.get_origin(kind) is typing.Literal:
                found[name] = typing.get_args(kind)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_text_is_a_literal_type_unless_it_may_be_any(name):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    free = {
        name for name, given in parameters.items() if str in kinds(given.annotation)
    }
    assert free <= FREE


def test_modes_are_found():
    assert modes(adaptax.reduce_on_plateau)["mode"] == ("min", "max")
    assert modes(adaptax.sweep)["strategy"] == ("auto", "vmap", "map")
    assert modes(catalog.find)["family"]


@pytest.mark.parametrize(
    ("entry", "argument"),
    [
        (entry, argument)
        for entry in catalog.ENTRIES
        for argument in modes(entry.factory)
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_no_other_name_of_a_mode_is_accepted(entry, argument):
    allowed = ", ".join(map(repr, modes(entry.factory)[argument]))
    with pytest.raises(ValueError, match="got 'other'") as refused:
        entry.make(**{argument: "other"})
    assert f"{argument} must be one of {allowed}, got" in str(refused.value)
