"""The base install, and a source tree that was never installed, in real processes."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import adaptax
from adaptax.bench.__main__ import BENCHMARKS

PACKAGE = Path(adaptax.__file__).parent


def needed(name, found):
    """Collect the distributions that one needs without any extra, itself included."""
    if name not in found:
        found[name] = metadata.distribution(name)
        for requirement in map(Requirement, found[name].requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a function that runs Python with adaptax's sources and what they require.

    Nothing else can be imported, and adaptax has no metadata.
    """
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(
        PACKAGE, folder / "adaptax", ignore=shutil.ignore_patterns("__pycache__")
    )
    distributions = needed("adaptax", {})
    del distributions["adaptax"]
    for distribution in distributions.values():
        for top in {file.parts[0] for file in distribution.files} - {
            "..",
            "__pycache__",
        }:
            if not (folder / top).exists():
                (folder / top).symlink_to(distribution.locate_file(top))

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        return subprocess.run(
            [sys.executable, "-S", *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_base_install_imports_and_prints_tables_without_metadata(base):
    done = base(
        "-c",
        """
import importlib.util
import adaptax, jax.numpy as jnp
assert importlib.util.find_spec("rich") is None
assert adaptax.plots.sweep and adaptax.spaces.grid
trial = adaptax.trial(
    lambda key: jnp.ones(3),
    lambda w, x: jnp.mean(x * w**2),
    lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
    jnp.ones((4, 3)),
)
space = {"learning_rate": adaptax.spaces.grid([0.1, 0.2])}
swept = adaptax.sweep(trial, space, num_steps=3)
print(adaptax.__version__)
print(swept.table())
try:
    adaptax.plots.sweep(swept)
except ImportError as error:
    print(error)
""",
    )
    assert done.returncode == 0, done.stderr
    version, titles, best, _, plots = done.stdout.splitlines()
    assert version == "0+unknown"
    assert titles.split() == ["learning_rate", "score"]
    assert best.split()[0] == "0.2"
    assert 'pip install "adaptax[plots]"' in plots


def test_benchmarks_and_command_line_name_the_extra_that_is_missing(base):
    done = base(
        "-c",
        """
from adaptax.__main__ import main as look
from adaptax.bench.__main__ import BENCHMARKS, main as bench
look(["list", "schedule"])
for run, arguments in [(look, ["plot", "cosine"]), *((bench, [b]) for b in BENCHMARKS)]:
    try:
        run(arguments)
    except SystemExit as end:
        print(end)
""",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    plot, *benchmarks = lines[-1 - len(BENCHMARKS) :]
    assert "  cosine " in done.stdout
    assert 'pip install "adaptax[plots]"' in plot
    for said in benchmarks:
        assert said.startswith("python -m adaptax.bench: the benchmarks need ")
        assert said.endswith('pip install "adaptax[bench]".')


def test_importing_adaptax_imports_no_extra():
    """Neither drawing nor tables nor Flax cost anybody time who does not use them."""
    code = """
import sys, adaptax
extras = ("evosax", "flax", "matplotlib", "mlxtend", "orbax", "rich", "sklearn")
print([name for name in extras if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True).strip() == "[]"
