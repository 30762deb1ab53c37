"""Kills at random moments: a tool that is started again ends with the same bits."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import killed_tool
import numpy as np
import pytest
from test_digests import OPTIONS, TOOLS, made

from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.rescue import Rescue
from adaptax.tuning.running.run_options import RunOptions
from adaptax.tuning.running.tool_runs import ToolRun
from adaptax.tuning.storage.checkpoints import Checkpoints

SCRIPT = Path(killed_tool.__file__)


def start(tool, folder, *how):
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if tool == "sweep":  # as on another machine, which compiles its own programs
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return subprocess.Popen(
        [sys.executable, SCRIPT, tool, folder, *how],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        text=True,
    )


def finish(tool, folder):
    process = start(tool, folder)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return arrays_of(folder / "result.npz")


def arrays_of(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays if name != "__about__"}


def interrupt(tool, folder, moment, how):
    """Interrupt a run some moments after a checkpoint; give its exit code."""
    process = start(tool, folder, "slowly")
    begun, deadline = saved(folder), time.monotonic() + 120
    while process.poll() is None and saved(folder) == begun:
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


def saved(folder):
    return {path.name for path in folder.glob("checkpoints/*.npz")}


@pytest.mark.parametrize("tool", ["sweep", "halving", "population"])
def test_a_killed_tool_started_again_gives_the_same_bits(tool, tmp_path):
    moments = np.random.default_rng(sum(map(ord, tool))).uniform(0, 0.4, 2)
    hits = [
        interrupt(tool, tmp_path / "killed", moment, signal.SIGKILL)
        for moment in moments
    ]
    assert -signal.SIGKILL in hits  # the others had ended before
    resumed = finish(tool, tmp_path / "killed")
    getattr(killed_tool, tool)(tmp_path / "whole").save(tmp_path / "whole.npz")
    whole = arrays_of(tmp_path / "whole.npz")
    assert resumed.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


def test_ctrl_c_ends_a_tool_at_once(tmp_path):
    folder = tmp_path / "interrupted"
    assert interrupt("endless", folder, 0.1, signal.SIGINT) != 0
    assert not (folder / "result.npz").exists()


def test_a_terminated_tool_saves_and_ends_with_143(tmp_path):
    folder = tmp_path / "terminated"
    assert interrupt("endless", folder, 0.1, signal.SIGTERM) == 143
    assert saved(folder)
    assert not (folder / "result.npz").exists()


@pytest.mark.parametrize("tool", TOOLS)
def test_a_sigterm_lets_every_tool_save_and_end(tool, tmp_path, monkeypatch):
    run = partial(TOOLS[tool], made(), checkpoint=tmp_path, **OPTIONS)
    advance, calls = Population.advance, []

    def terminated(self, steps):
        calls.append(steps)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, steps)

    with monkeypatch.context() as patched:
        patched.setattr(Population, "advance", terminated)
        patched.setattr(Checkpoints, "due", lambda _: False)  # the clock saves nothing
        with pytest.raises(SystemExit) as ended:
            run()
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert list(tmp_path.glob("*.npz"))
    assert run().about["resumed"]


def begun(folder):
    """Begin a run of no tool."""
    return ToolRun(
        "tool",
        made(),
        {"learning_rate": np.ones(1, np.float32)},
        RunOptions(0, "map", None, folder, False),
        total=9,
        about={},
    )


def test_an_error_saves_what_the_first_of_several_processes_holds(tmp_path):
    array = np.ones(2)

    def fail():
        with begun(tmp_path) as tool_run:
            tool_run._rescue = Rescue(tool_run.checkpoints)
            tool_run._rescue.keep(5, {"x": array}, {})
            array[:] = 2  # the next call writes into it
            raise KeyError("a collective")

    with pytest.raises(KeyError) as ended:
        fail()
    assert "has a checkpoint from before the error" in ended.value.__notes__[0]
    with begun(tmp_path) as again:
        found = again.resumed
    assert found is not None
    assert found.step == 5
    np.testing.assert_array_equal(found.arrays["x"], 1)


def test_a_sigterm_after_the_last_save_ends_with_143_and_the_result(tmp_path):
    class Result:
        def contents(self):
            return {"x": np.ones(2)}, {}

    def finished():
        with begun(tmp_path) as tool_run:
            os.kill(os.getpid(), signal.SIGTERM)
            tool_run.finish(Result())

    with pytest.raises(SystemExit, match="143"):
        finished()
    with begun(tmp_path) as again:
        assert again.resumed.notes == {"finished": {}}


def ended(folder, error):
    """End a run by an error, or without one, just after a SIGTERM."""
    with begun(folder):
        os.kill(os.getpid(), signal.SIGTERM)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, ValueError("lost")])
def test_a_sigterm_before_an_error_that_is_caught_still_ends_the_process(
    error, tmp_path
):
    with pytest.raises(SystemExit, match="143") as found, suppress(ValueError):
        ended(tmp_path, error)
    assert found.value.__cause__ is error
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ctrl_c_after_a_sigterm_is_still_ctrl_c(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        ended(tmp_path, KeyboardInterrupt())
