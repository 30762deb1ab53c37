"""The pages of the reference, written from the package whenever the site is built.

A folder of methods is a page, in the order of the catalogue; a module is a section: its
docstring with the equation and the source, the factory, the direction, the state. Other
public names have a page for each module or package. What a page shows is found by
looking, so that a new method needs no line here.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from adaptax import catalog

FOLDERS = {
    "optimizers": "Optimizers",
    "schedules": "Schedules",
    "controllers": "Controllers",
    "estimates": "Estimates",
    "wrappers": "Wrappers",
}
"""The families of the catalogue: the folder of each, and the title of its page."""

MODULES = {
    "reading": "Reading and setting learning rates",
    "orders": "Orders to a run under way",
    "moving": "Moving in",
    "flax": "Flax",
    "spaces": "Spaces",
    "plots": "Plots",
    "catalog": "Catalogue",
}
"""Public modules, with a page each."""

INFERRED = """\
Nobody has to choose a learning rate where it can be inferred: from the distance
covered, the curvature, or a bound of the loss.

Some optimizers do so by themselves. Their ``learning_rate`` α is a factor without a
unit: leave it at 1, or give a schedule whose peak is 1. What is applied is α times the
rate that they infer, and ``adaptax.learning_rate(state)`` reads the product. For
``adamg`` and the ``momo`` methods α is the largest rate, and ``cocob`` has no rate of
any kind. Groups of parameters with a distance each are made with ``optax.partition``.

``self_tuning`` has no rate, schedule or horizon to choose; it is made of Prodigy with a
cap and an average.

Estimates, such as ``dog``, are rates that go behind any direction. The wrapper
``prodigy_distance`` puts Prodigy's estimate around any optimizer, and ``mechanic`` and
``trac`` scale the path of one. ``schedule_free`` and
``iterate_average`` keep an average of the points, which ``adaptax.eval_params`` finds.
"""


def write(folder: Path) -> None:
    """Write all pages; one whose text has not changed is left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = pages()
    for page in folder.glob("*.rst"):
        if page.stem not in texts:
            page.unlink()
    for name, text in texts.items():
        page = folder / f"{name}.rst"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    core = [name for name in public() if name.startswith("adaptax._core.")]
    tools = sorted(
        (name for name in public() if name.startswith("adaptax.tuning.")),
        key=lambda name: (not name.startswith("adaptax.tuning.trials"), name),
    )
    tools += ["adaptax.tuning.studies", "adaptax.tuning.ray"]
    return {
        **{name: _folder(name, title) for name, title in FOLDERS.items()},
        **{name: _module(name, title) for name, title in MODULES.items()},
        "learning_rate_free": _inferred(),
        "rates": _page("Rates and evaluation", [], map(_section, core)),
        "tuning": _page("Tools", _docstring("adaptax.tuning"), map(_section, tools)),
        "core": _core(),
    }


def public() -> dict[str, dict[str, Any]]:
    """Return, for each module that defines public names, these by their full paths.

    Public is what `adaptax` exports, or one of the packages of methods and tools.
    """
    found: dict[str, dict[str, Any]] = {}
    homes = {id(entry.factory): _home(entry) for entry in catalog.ENTRIES}
    seen = set()
    for package in ("", *(f".{name}" for name in (*FOLDERS, "tuning"))):
        module = importlib.import_module("adaptax" + package)
        for name, value in vars(module).items():
            if name.startswith("_") or inspect.ismodule(value) or id(value) in seen:
                continue
            seen.add(id(value))
            home = homes.get(id(value), value.__module__)
            if _is_state(value):
                if not home.startswith("adaptax._core."):
                    continue  # it stands in the section of its method
                home = f"{module.__name__}.{_in_snake_case(value.__name__)}"
            found.setdefault(home, {})[f"{module.__name__}.{name}"] = value
    return found


def with_mathematics(lines: list[str], *, of_module: bool) -> list[str]:
    """Show a module's equations as they stand, and |x − y| as itself everywhere."""
    blocks = "\n".join(lines).split("\n\n")
    after_text = False
    for i, block in enumerate(blocks):
        if of_module and block.startswith("    "):
            blocks[i] = "::\n\n" + block if after_text else block
            after_text = False
        else:
            blocks[i] = re.sub(r"\|(\S(?:[^|]*\S)?)\|", r"\|\1\|", block)
            after_text = True
    return "\n\n".join(blocks).split("\n")


def _folder(name: str, title: str) -> str:
    """Return the page of a folder: first what the catalogue has, then all else."""
    inside = f"adaptax.{name}."
    modules = [
        home for entry in catalog.ENTRIES if (home := _home(entry)).startswith(inside)
    ]
    modules += [home for home in public() if home.startswith(inside)]
    sections = [_section(home) for home in dict.fromkeys(modules)]
    return _page(title, _docstring(f"adaptax.{name}"), sections)


def _module(name: str, title: str) -> str:
    path = f"adaptax.{name}"
    found = public().get(path) or _own(importlib.import_module(path))
    names = [_documented(*pair) for pair in found.items()]
    return _page(title, _docstring(path), names)


def _core() -> str:
    """Return the page for contributors: what methods are made of."""
    package = importlib.import_module("adaptax._core")
    sections = []
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        shown = public().get(info.name, {})  # on the page about rates, with its states
        own = {
            path: value
            for path, value in _own(importlib.import_module(info.name)).items()
            if not shown or not (value in shown.values() or _is_state(value))
        }
        names = _joined(_documented(*pair) for pair in own.items())
        about = [] if shown else _docstring(info.name)
        sections.append([*_heading(_title(info.name)), *about, *names])
    return _page("What methods are made of", _docstring(package.__name__), sections)


def _inferred() -> str:
    """Return the page about methods that infer their rate, with a table of them."""
    listed = [
        entry
        for entry in catalog.ENTRIES
        if entry.rate != "factor" or _home(entry).startswith("adaptax.estimates.")
    ]
    rows = []
    for entry in listed:
        about = _first_line(_home(entry)).partition(": ")[2]
        rows += [
            f"   * - :py:obj:`{entry.name} <adaptax.{entry.name}>`",
            f"     - {entry.family}",
            f"     - {about}",
            f"     - {entry.source}",
        ]
    table = [".. list-table::", "   :header-rows: 1", ""]
    table += ["   * - Method", "     - Family", "     - What it does", "     - Source"]
    return _page("Learning-rate free", [INFERRED], [[*table, *rows, ""]])


def _section(home: str) -> list[str]:
    """Return the lines about one module: its text, its public names, its states."""
    factories = [entry.factory for entry in catalog.ENTRIES]
    directions = [entry.direction for entry in catalog.ENTRIES if entry.direction]
    module = importlib.import_module(home)
    names = public().get(home) or _own(module)
    states = {path: own for path, own in _own(module).items() if _is_state(own)}

    def place(pair):
        return 0 if pair[1] in factories else 1 if pair[1] in directions else 2

    pairs = [*sorted(names.items(), key=place), *states.items()]
    documented = [_documented(*pair) for pair in pairs]
    return [*_heading(_title(home)), *_docstring(home), *_joined(documented)]


def _documented(path: str, value: Any) -> list[str]:
    """Return the directive for a function or a class."""
    if not inspect.isclass(value):
        return [f".. autofunction:: {path}", ""]
    lines = [f".. autoclass:: {path}"]
    if issubclass(value, tuple) and not _is_state(value):
        methods = [name for name, own in vars(value).items() if inspect.isfunction(own)]
        shown = [name for name in methods if not name.startswith("_")]
        lines += [f"   :members: {', '.join(shown)}"] if shown else []
        lines += ["   :special-members: __call__"] if "__call__" in methods else []
    elif not issubclass(value, tuple | Exception):
        lines += ["   :members:", "   :inherited-members:"]
    return [*lines, ""]


def _docstring(home: str) -> list[str]:
    """Return the directive for a module's own text."""
    paths = [path for names in public().values() for path in names]
    unindexed = ["   :no-index:"] if home in paths else []
    return [f".. automodule:: {home}", "   :no-members:", *unindexed, ""]


def _page(title: str, intro: list[str], sections: Iterable[list[str]]) -> str:
    lines = [*_heading(title, "="), *intro, "", *_joined(sections)]
    return "\n".join(lines).rstrip() + "\n"


def _heading(title: str, mark: str = "-") -> list[str]:
    return [title, mark * len(title), ""]


def _title(home: str) -> str:
    """Return what a module is called: the first words of its docstring."""
    name, colon, _ = _first_line(home).partition(": ")
    return name if colon else home.rpartition(".")[2].replace("_", " ").capitalize()


def _first_line(home: str) -> str:
    return (inspect.getdoc(importlib.import_module(home)) or "").split("\n")[0]


def _home(entry: catalog.Entry) -> str:
    """Return the module of a method, which has its name and lies in its family."""
    return f"adaptax.{entry.family}s.{entry.name}"


def _own(module: ModuleType) -> dict[str, Any]:
    """Return what a module or its files define: functions and classes, not private."""
    return {
        f"{module.__name__}.{name}": value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }


def _is_state(value: Any) -> bool:
    """Return whether it is the class of a method's state."""
    if not inspect.isclass(value) or not issubclass(value, tuple):
        return False
    of_method = value.__module__.split(".")[1:2] != ["tuning"]
    return of_method and value.__name__.endswith(("State", "Tuner"))


def _in_snake_case(state: str) -> str:
    """Return the name of a method whose state has this name."""
    words = re.findall("[A-Z][a-z0-9]*", state.removesuffix("State"))
    return "_".join(words).lower()


def _joined(parts: Iterable[list[str]]) -> Iterator[str]:
    return (line for part in parts for line in part)
