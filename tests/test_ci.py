"""`.ci/run` takes the newest and the oldest supported Python; `make` is an echo."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "cat", "dirname", "getconf", "mktemp", "rm", "sed", "sort")


@pytest.fixture
def machine(tmp_path):
    """Return a function that runs `.ci/run` where there are only some files."""
    for name in (".ci/run", "pyproject.toml"):
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool))

    def program(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)

    def run(on_path=(), installed_by_pyenv=(), broken=(), failing="none"):
        fails = f"case $1 in *{failing}) exit 7;; esac"
        program(programs / "make", f'echo "made $*"; {fails}')
        for version in (*on_path, *broken):
            program(programs / f"python{version}", f"exit {int(version in broken)}")
        for version in installed_by_pyenv:
            program(tmp_path / f".pyenv/versions/{version}/bin/python", "exit 0")
        return subprocess.run(
            [programs / "bash", tmp_path / "clone/.ci/run"],
            env={"PATH": str(programs), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def made(done):
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("made "), "the last line is that of the tests"
    return [line.removeprefix("made ") for line in lines if line.startswith("made ")]


def test_the_newest_is_checked_and_tested_and_the_oldest_tested(machine, tmp_path):
    done = machine(on_path=["3.11", "3.12", "3.14"])
    places = tmp_path / "bin"
    newest, oldest = made(done)
    assert newest == f"VENV=.venv-3.14 PYTHON={places}/python3.14 check test"
    before, _, chosen = oldest.partition(" ARGS=")
    assert before == f"VENV=.venv-3.11 PYTHON={places}/python3.11 test"
    option, workers, *paths = chosen.split()
    assert option == "-n"
    assert int(workers) == -(-os.cpu_count() // 2)
    assert "tests/conformance" in paths
    assert all((ROOT / path).exists() for path in paths)
    assert f"Found Python 3.14, the newest of 3.14 3.13 3.12 3.11: {places}" in (
        done.stdout
    )


@pytest.mark.parametrize("failing", ["3.11", "3.14"])
def test_where_one_of_them_fails_the_other_is_tested_and_all_fails(machine, failing):
    done = machine(on_path=["3.11", "3.14"], failing=failing)
    assert done.returncode == 7
    assert done.stdout.count("\nmade ") == 2


def test_pyenvs_are_found_where_what_is_on_the_path_leads_nowhere(machine, tmp_path):
    done = machine(
        on_path=["3.11"],
        broken=["3.14", "3.13"],
        installed_by_pyenv=["3.13.9", "3.13.10"],
    )
    newest = tmp_path / ".pyenv/versions/3.13.10/bin/python"
    assert made(done)[0] == f"VENV=.venv-3.13 PYTHON={newest} check test"
    assert len(made(done)) == 2


@pytest.mark.parametrize("only", ["3.11", "3.13"])
def test_with_one_python_all_runs_once_and_it_says_so(machine, only):
    done = machine(on_path=[only])
    assert [line.split()[0] for line in made(done)] == [f"VENV=.venv-{only}"]
    assert made(done)[0].endswith("check test")
    assert "the tests run once" in done.stdout


def test_without_any_it_says_what_it_looked_for(machine):
    done = machine(on_path=["3.10"])
    assert done.returncode == 1
    assert "Found none of Python 3.14 3.13 3.12 3.11" in done.stderr
