"""Names for the scalars of a state, as on a dashboard.

    method/field        label/method/field        saved/method/field

A scalar belongs to the innermost state that contains it. Where two states have the same
name, it is prefixed by the parts of their paths that differ: the paths to all states of
that name form a tree, and the prefix has the key taken at each fork.
"""

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp

from adaptax._core.following import UNNAMED, ControllerState
from adaptax._core.leaves import is_number
from adaptax._core.states import SAVED, fields_of, parts_of


class _Owner(NamedTuple):
    """A state that scalars belong to, and the path that leads to it."""

    name: tuple[str, ...]
    path: tuple[Any, ...]


class _Place(NamedTuple):
    """A node in a state: its owner, and the fields that lead from the owner to it."""

    node: Any
    path: tuple[Any, ...]
    owner: _Owner
    fields: tuple[Any, ...]


def named_scalars(state: Any) -> dict[str, Any]:
    """Return all scalars of a state by their names."""
    found = list(_scalars(state))
    prefixes = _prefixes({place.owner for place in found})
    names = [
        _joined((*prefixes[place.owner], *place.owner.name, *place.fields))
        for place in found
    ]
    number = Counter(names)
    return {
        name if number[name] == 1 else _joined(place.path): place.node
        for name, place in zip(names, found, strict=True)
    }


def _scalars(state: Any) -> Iterable[_Place]:
    """Yield the scalars in the order of the leaves."""
    waiting = [_entered(state, (), _Owner((), ()), ())]
    while waiting:
        place = waiting.pop()
        if is_number(place.node):
            if jnp.ndim(place.node) == 0:
                yield place
        else:
            waiting.extend(reversed(list(_below(place))))


def _below(place: _Place) -> Iterable[_Place]:
    """Yield the children of a node; for a controller, its method's children as well."""
    node, path, owner, fields = place
    if isinstance(node, ControllerState):
        ((label, method),) = node.followed.items()
        name = method_name(method)
        shown = () if label in (*UNNAMED, name) else (label,)
        owner = _Owner((*_saved(path), *shown, name), path)
        below = (*path, "followed", label)
        for key, part in parts_of(method).items():
            yield _entered(part, (*below, key), owner, (key,))
        fields = ()
    for key, part in parts_of(node).items():
        if not (isinstance(node, ControllerState) and key == "followed"):
            yield _entered(part, (*path, key), owner, (*fields, key))


def _entered(node: Any, path: Any, owner: _Owner, fields: Any) -> _Place:
    if type(node).__name__.endswith("State"):
        return _Place(node, path, _Owner((*_saved(path), method_name(node)), path), ())
    return _Place(node, path, owner, fields)


def _saved(path: tuple[Any, ...]) -> tuple[str, ...]:
    return ("saved",) if SAVED in path else ()


def method_name(state: Any) -> str:
    """Return the name of the function whose state this is, or of the state's class.

    The state that `mechanic` and `trac` share is named by its tuner.
    """
    return _method_of(type(state.tuner if "tuner" in fields_of(state) else state))


@functools.cache
def _method_of(kind: type) -> str:
    """Find the function by the name of the class (LDogState: l_dog) or the module.

    A private state belongs to its module as a whole.
    """
    words, module = re.sub("(State|Tuner)$", "", kind.__name__), kind.__module__
    namespace = vars(sys.modules[module]) if module.startswith("adaptax.") else {}
    functions = [
        name for name, it in namespace.items() if name[0] != "_" and callable(it)
    ]
    for name in functions:
        if name.replace("_", "") == words.lower():
            return name
    last = module.rpartition(".")[2]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()
    return last if last in functions or words.startswith("_") else snake


def _prefixes(owners: set[_Owner]) -> dict[_Owner, tuple[Any, ...]]:
    """Return the parts of paths by which owners of the same name differ."""
    of_name: dict[tuple[str, ...], list[_Owner]] = {}
    for owner in owners:
        of_name.setdefault(owner.name, []).append(owner)
    prefixes = {}
    for alike in of_name.values():
        nodes: dict[tuple[int, Any], int] = {}  # of the tree, by parent and key
        ends = []
        for owner in alike:
            parent = 0
            for part in owner.path:
                parent = nodes.setdefault((parent, part), len(nodes) + 1)
            ends.append(parent)
        forks = Counter(ends) + Counter(parent for parent, _ in nodes)
        for owner in alike:
            parent, taken = 0, []
            for part in owner.path:
                if forks[parent] > 1:
                    taken.append(part)
                parent = nodes[parent, part]
            prefixes[owner] = tuple(taken)
    return prefixes


def _joined(parts: Iterable[Any]) -> str:
    """Join a path, escaping slashes in keys as JSON pointers do."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "/".join(escaped)
