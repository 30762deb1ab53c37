"""Two processes over loopback: both have the result that one process has."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import losing_one
import numpy as np
import pytest
from one_of_two import evolve, halve
from ports import reserved_port

import adaptax

SCRIPT = Path(__file__).with_name("one_of_two.py")


def run_both(script, folder, ends=(0, 0)):
    """Run a script as two processes; return what each of them printed.

    Args:
        script: Its path.
        folder: Its last argument.
        ends: The codes with which they end.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    logs = [folder / f"log-{process}" for process in range(2)]
    started = []
    with reserved_port() as port:
        try:
            for process, log in enumerate(logs):
                command = [sys.executable, script, str(process), port, folder]
                with log.open("w") as output:
                    started.append(
                        subprocess.Popen(
                            command, stdout=output, stderr=output, env=environment
                        )
                    )
            codes = [process.wait(timeout=1200) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
    outputs = [log.read_text() for log in logs]
    assert codes == list(ends), "\n".join(outputs)
    return outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with what each of the processes saved."""
    folder = tmp_path_factory.mktemp("processes")
    run_both(SCRIPT, folder, (0, -signal.SIGKILL))
    return folder


@pytest.fixture(scope="module")
def disagreements(tmp_path_factory):
    """Return what each process raised where they were started with different runs."""
    folder = tmp_path_factory.mktemp("disagreements")
    outputs = run_both(SCRIPT.with_name("disagreeing.py"), folder)
    return [dict(line.partition(" ")[::2] for line in t.splitlines()) for t in outputs]


DIFFERENT = {
    "space": r"hparams\['learning_rate'\] = .* on process 1 and .* on process 0",
    "key": r"key = .*0, 7' on process 1 and .*0, 0' on process 0",
    "data": r"data\[0\]\['x'\] = 'float32\[48,3\].*SHA-256",
    "num_steps": "num_steps = 20 on process 1 and 10 on process 0",
    "program": "programs.advance",
    "strategy": "strategy = 'vmap' on process 1 and 'map' on process 0",
    "checkpoint": "saves = True on process 1 and False on process 0",
    "failed": "failed = .*KeyError.*missing.* on process 1",
    "tool": "tool = 'successive halving' on process 1 and 'sweep' on process 0",
    "halving": "eta = 2 on process 1 and 3",
    "finder": "rates.* on process 1",
    "population": "rules",
    "branch": "hparams.* on process 1",
    "search": "baseline = False on process 1 and True on process 0",
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_processes_with_different_runs_all_raise_with_what_differs(disagreements, case):
    for errors in disagreements:
        assert errors[case].startswith("ValueError the processes were started with")
        assert re.search(DIFFERENT[case], errors[case]), errors[case]


def test_a_folder_that_the_first_process_cannot_take_is_named_by_all(disagreements):
    for errors in disagreements:
        assert re.search("Error .*file cannot hold checkpoints", errors["folder"])
        assert "ended" in errors  # and they go on together afterwards


@pytest.mark.parametrize("process", [0, 1])
def test_halving_drops_the_same_members_in_every_process(folder, process):
    here = halve(jax.make_mesh((8,), ("members",)))
    there = adaptax.HalvingResult.load(folder / f"halving-{process}.npz")
    np.testing.assert_array_equal(there.reached, here.reached)
    np.testing.assert_array_equal(there.losses, here.losses)


@pytest.mark.parametrize("process", [0, 1])
def test_a_population_copies_across_processes(folder, process, tmp_path):
    here = evolve(jax.make_mesh((8,), ("members",)), tmp_path)
    there = adaptax.PopulationResult.load(folder / f"population-{process}.npz")
    np.testing.assert_array_equal(there.parents, here.parents)
    np.testing.assert_array_equal(there.losses, here.losses)
    assert (there.parents[1:] != np.arange(10)).any()
    assert list((folder / "checkpoints").glob("*.npz"))


def test_processes_end_together_and_the_first_saves_when_the_other_dies(folder):
    """A SIGTERM to one ends both; before the call with a death, the state is saved."""
    first, second = ((folder / f"log-{process}").read_text() for process in range(2))
    assert "ended 143 2 True" in first
    assert "ended 143 2 True" in second
    assert re.search("lost .*has a checkpoint from before the error", first)
    steps = sorted(int(path.name[:12]) for path in (folder / "lost").glob("*.npz"))
    assert steps == [losing_one.ENDED, losing_one.SAVED]
    resumed = losing_one.sweep(None, folder / "lost")
    assert resumed.about["resumed"]
    whole = losing_one.sweep(None, None)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
