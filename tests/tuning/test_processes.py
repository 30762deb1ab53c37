"""Two processes over loopback: both have the result that one process has."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from one_of_two import evolve, halve
from ports import reserved_port

import adaptax

SCRIPT = Path(__file__).with_name("one_of_two.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with what each of the processes saved."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    logs = [folder / f"log-{process}" for process in range(2)]
    started = []
    with reserved_port() as port:
        try:
            for process, log in enumerate(logs):
                command = [sys.executable, SCRIPT, str(process), port, folder]
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
    assert codes == [0, 0], "\n".join(log.read_text() for log in logs)
    return folder


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
