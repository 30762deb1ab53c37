"""`python -m adaptax.bench NAME`: measure adaptax side by side with its peers."""

import argparse
import sys
from importlib import import_module

from adaptax.bench.shared.arguments import folder

BENCHMARKS = ("horizons", "memory", "mnist", "speed", "step", "sweep", "tuning")


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark that the command line names."""
    try:
        _run(argv)
    except ImportError as error:
        sys.exit(f"python -m adaptax.bench: {_explained(error)}")


def _run(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m adaptax.bench", description=__doc__
    )
    benchmarks = parser.add_subparsers(required=True, metavar="NAME")
    for name in BENCHMARKS:
        # Imported inside main, which explains a missing package.
        module = import_module(f"adaptax.bench.{name}.benchmark")
        summary = (module.__doc__ or "").partition("\n")[0]
        command = benchmarks.add_parser(name, help=summary, description=summary)
        command.add_argument("--out", type=folder, help="folder for the results")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def _explained(error: ImportError) -> str:
    """Return a message that names the extra of a missing package, or raise again."""
    if error.name is None:  # our own error, whose message names the extra
        return str(error)
    package = error.name.partition(".")[0]
    if package == "adaptax" or not isinstance(error, ModuleNotFoundError):
        raise error
    return f'the benchmarks need {package}: pip install "adaptax[bench]".'


if __name__ == "__main__":
    main()
