"""`python -m adaptax`: look methods up in the catalogue.

list [FAMILY]    all methods, or those of a family, with a line about each
show NAME        equations, arguments, example values and source of a method
plot NAME        save a plot of a schedule
"""

import argparse
import difflib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptax import plots
from adaptax.catalog import ENTRIES, Entry, find

FAMILIES = tuple(dict.fromkeys(entry.family for entry in ENTRIES))


def main(argv: list[str] | None = None) -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m adaptax",
        description="Look methods up in the catalogue of adaptax.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all methods, with a line about each")
    listing.add_argument("family", nargs="?", choices=FAMILIES, metavar="FAMILY")
    listing.set_defaults(run=_list)
    showing = commands.add_parser(
        "show", help="equations, arguments, example values and source of a method"
    )
    showing.add_argument("name", metavar="NAME")
    showing.set_defaults(run=_show)
    plotting = commands.add_parser("plot", help="save a plot of a schedule")
    plotting.add_argument("name", metavar="NAME")
    plotting.add_argument("--steps", type=int, default=1000, help="default: 1000")
    plotting.add_argument("--rate", type=float, default=1.0, help="default: 1")
    plotting.add_argument("--out", type=Path, help="the file; default: NAME.png")
    plotting.set_defaults(run=_plot)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"python -m adaptax: {error}")


def _list(given: argparse.Namespace) -> None:
    width = max(len(entry.name) for entry in ENTRIES)
    for heading in FAMILIES if given.family is None else (given.family,):
        print(f"{heading}s")
        for entry in ENTRIES:
            if entry.family == heading:
                print(f"  {entry.name:{width}}  {_summary(entry)}")


def _show(given: argparse.Namespace) -> None:
    for entry in _named(given.name):
        print(f"{_article(entry.family)} {entry.family}: adaptax.{entry.name}\n")
        print(f"{inspect.getdoc(inspect.getmodule(entry.factory))}\n")
        print(f"{entry.name}{inspect.signature(entry.factory)}\n")
        print(f"{inspect.getdoc(entry.factory)}\n")
        print(f"Example values: {_pairs(entry.hyperparameters)}")
        for variant in entry.variants:
            print(f"Variant: {_pairs(variant)}")
        if entry.needs:
            print(f"Its update needs: {', '.join(sorted(entry.needs))}")
        if entry.differs:
            print(f"Difference from Optax: {entry.differs}")
        print(f"Source: {entry.source}")


def _plot(given: argparse.Namespace) -> None:
    entry = find(given.name, "schedule")
    over = entry.over
    schedule: Any = entry.make() if over is None else over(given.rate, given.steps)
    path = given.out or Path(f"{entry.name}.png")
    plots.schedule({entry.name: schedule}, total_steps=given.steps).savefig(path)
    print(path)


def _named(name: str) -> list[Entry]:
    found = [entry for entry in ENTRIES if entry.name == name]
    if not found:
        near = difflib.get_close_matches(name, [entry.name for entry in ENTRIES])
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"there is no method {name!r}. {hint}See python -m adaptax list."
        )
    return found


def _summary(entry: Entry) -> str:
    """Return the first line of a method's module, or of its function if shared."""
    module = inspect.getmodule(entry.factory)
    own = module is not None and module.__name__.rpartition(".")[2] == entry.name
    return (inspect.getdoc(module if own else entry.factory) or "").partition("\n")[0]


def _article(family: str) -> str:
    return "An" if family[0] in "aeiou" else "A"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


if __name__ == "__main__":
    main()
