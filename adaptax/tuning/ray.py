"""Studies on a Ray cluster: jobs are tasks that keep their states as files.

    driver    asks the study for jobs, and tells it the outcomes in the files
    task      reads the state of its parent, trains, writes its state and its outcome

A task whose worker dies is tried again from its parent's state. If the driver dies, the
next one finds the outcomes of all jobs that had ended, and trains the others. Neither
changes a decision: these depend only on the outcomes.
"""

import dataclasses
import importlib
import pickle
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

from adaptax._core import checks, tool_checks
from adaptax._core.checks import require
from adaptax.tuning.designs import AnyResult
from adaptax.tuning.jobs import Job, as_losses
from adaptax.tuning.storage import result_files, strict_json
from adaptax.tuning.storage.atomic_files import write_atomically
from adaptax.tuning.storage.folder_lock import lock
from adaptax.tuning.study import Study
from adaptax.tuning.trainer import Trainer

Train = Callable[[Job, Any], tuple[Any, Any, Any]]

_KIND = "adaptax study on Ray"
_TRAINS: dict[str, Train] = {}  # in a worker: one function, with what it has compiled


def play(
    study: Study[AnyResult],
    train: Train,
    *,
    folder: str | PathLike[str],
    retries: int = 3,
    options: Mapping[str, Any] | None = None,
) -> AnyResult:
    """Train the jobs of a study on a Ray cluster, and return its result.

    The cluster is that of `ray.init(address=...)`; without that call Ray starts a local
    one. Called again with the same study after an interruption, it resumes.

    Args:
        study: A new study, or one that was told the outcomes of its first jobs.
        train: `train(job, state)` trains a job from the state of its parent, `None` for
            a new run, and returns the losses, the score and the state at its end. The
            first two are those of `Study.tell`, the state is anything that pickle
            takes. A `Trainer` is such a function.
        folder: A folder for the outcomes and the states, which all nodes must see. It
            keeps the states of the last round and of the best job.
        retries: How often a job is tried again when its worker or its node dies.
        options: Options of the tasks, as of `ray.remote`: `{"num_gpus": 1}`.

    Raises:
        ImportError: If Ray is missing.
        TypeError: If an argument has another type.
        ValueError: If the folder has another study, or an outcome is not one of its
            job; see `Study.tell`.
        OSError: If the folder cannot be written, or another process is using it.
        RayError: If `train` raises, which is then its own error as well, or a worker
            dies too often; a note names the job.
    """
    if not isinstance(study, Study):
        raise TypeError(f"study must be a Study, got {study!r}.")
    if not callable(train):
        raise TypeError(f"train must be a function of job and state, got {train!r}.")
    if not isinstance(options, Mapping | None):
        raise TypeError(f"options must be a dict or None, got {options!r}.")
    retries = checks.length("retries", retries, at_least=0)
    path = Path(tool_checks.path("folder", folder, "a folder")).absolute()
    ray = _imported()
    with lock(path):
        _require_same(study, path / "study.json")
        _play(ray, study, train, path, {**(options or {}), "max_retries": retries})
    result = study.result()
    has_state = any(field.name == "state" for field in dataclasses.fields(result))
    if has_state and isinstance(train, Trainer) and study.best is not None:
        state = train.state_of(study.best, load_state(path, study.best))
        result = dataclasses.replace(result, **{"state": state})
    return result


def load_state(folder: str | PathLike[str], job: Job | int) -> Any:
    """Return the state at the end of a job, such as `study.best`.

    Args:
        folder: The folder of `play`.
        job: The job, or its index.

    Raises:
        FileNotFoundError: If the job has not ended, or its state was removed.
    """
    index = job.index if isinstance(job, Job) else job
    return pickle.loads(_state_file(Path(folder), index).read_bytes())


def _play(
    ray: Any, study: Study[Any], train: Train, folder: Path, options: dict[str, Any]
) -> None:
    """Train all jobs of a study that have no outcome in the folder."""
    task = ray.remote(_train).options(**options)
    token, held = uuid4().hex, [ray.put(train)]  # in a list, a task gets no copy
    running: dict[Any, Job] = {}
    try:
        while not study.done:
            jobs = study.ask()
            _remove_states(study, jobs, folder)
            for job in jobs:
                if _outcome_file(folder, job.index).exists():
                    _tell(study, job, folder)
                else:
                    running[task.remote(token, held, job, folder)] = job
            if running:
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                job = running.pop(ended)
                try:
                    ray.get(ended)
                except Exception as error:
                    error.add_note(f"in job {job.index}, with {job.hparams}")
                    raise
                _tell(study, job, folder)
    finally:
        for left in running:
            ray.cancel(left)


def _train(token: str, held: list[Any], job: Job, folder: Path) -> None:
    """Train a job in a worker; its outcome is written last."""
    if token not in _TRAINS:
        _TRAINS.clear()
        _TRAINS[token] = _imported().get(held[0])
    state = None if job.parent is None else load_state(folder, job.parent)
    losses, score, state = _TRAINS[token](job, state)
    losses = None if losses is None else as_losses(losses, job.steps)
    write_atomically(_state_file(folder, job.index), pickle.dumps(state))
    outcome = pickle.dumps((losses, score))
    write_atomically(_outcome_file(folder, job.index), outcome)


def _tell(study: Study[Any], job: Job, folder: Path) -> None:
    study.tell(job, *pickle.loads(_outcome_file(folder, job.index).read_bytes()))


def _require_same(study: Study[Any], path: Path) -> None:
    """Check that the folder is of this study, or write that it is from now on."""
    about = {"study": study.description}
    if not path.exists():
        result_files.save_arrays(path, _KIND, {}, about)
        return
    _, kept = result_files.load_arrays(path, _KIND)
    differing = strict_json.brief_differences(kept["study"], about["study"])
    require(
        not differing,
        f"folder {path.parent} has another study: {'; '.join(differing)}. Use another "
        "folder, or the same arguments.",
    )


def _remove_states(study: Study[Any], jobs: list[Job], folder: Path) -> None:
    """Remove the states from which no job of a new round continues."""
    if not jobs:
        return
    needed = {job.parent for job in jobs} | {study.best and study.best.index}
    for index in range(jobs[0].index):
        if index not in needed:
            _state_file(folder, index).unlink(missing_ok=True)


def _state_file(folder: Path, index: int) -> Path:
    return folder / f"job-{index:06d}.state"


def _outcome_file(folder: Path, index: int) -> Path:
    return folder / f"job-{index:06d}.outcome"


def _imported() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError(
            'adaptax.tuning.ray needs Ray: pip install "adaptax[ray]".'
        ) from error
