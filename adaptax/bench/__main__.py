"""`python -m adaptax.bench NAME`: measure adaptax side by side with its peers."""

import argparse
from pathlib import Path

from adaptax.bench import memory, mnist, speed, sweep, tuning


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m adaptax.bench", description=__doc__
    )
    benchmarks = parser.add_subparsers(required=True, metavar="NAME")
    for module in (memory, mnist, speed, sweep, tuning):
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition("\n")[0]
        command = benchmarks.add_parser(name, help=summary, description=summary)
        command.add_argument("--out", type=Path, help="folder for the results")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
