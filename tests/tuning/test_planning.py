"""Plans: what is chosen, what is tried, and how many members fit into the memory."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from lines import line_trial

import adaptax
from adaptax.tuning.running import planning
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.planning import (
    free_bytes,
    make_plan,
    members_that_fit,
    state_bytes,
    usable_workers,
)
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.programs import BUFFER, Programs

KEY = jax.random.key(0)
MEMBERS = 20
HPARAMS = {"learning_rate": np.full(MEMBERS, 0.1, np.float32)}
SEEDS = np.arange(MEMBERS)
LONG = 10**9


@pytest.fixture(scope="module")
def programs():
    return Programs(line_trial(), KEY)


@pytest.fixture(scope="module")
def spread_programs():
    return Programs(line_trial(), KEY, Mesh(np.array(jax.devices()), ("members",)))


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Pretend to have two cores and much memory."""
    monkeypatch.setattr(
        planning, "usable_workers", lambda mesh: mesh.size if mesh else 2
    )
    monkeypatch.setattr(planning, "free_bytes", lambda: 2.0**40)


@pytest.fixture
def timed(monkeypatch):
    """Pretend that a step takes so long under each plan; list those that were timed."""
    taken, timed = {}, []

    def seconds(population):
        timed.append(population.plan)
        return taken[population.plan]

    monkeypatch.setattr(planning, "_seconds", seconds)
    return taken, timed


def plan(programs, strategy, num_steps=LONG, members=MEMBERS):
    hparams = {"learning_rate": np.full(members, 0.1, np.float32)}
    return make_plan(programs, strategy, hparams, np.arange(members), num_steps)


# Strategies.


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("vmap", Plan(20, 1)),
        ("map", Plan(1, 2)),
        (3, Plan(3, 2)),
        (100, Plan(100, 2)),
        (Plan(7, 3), Plan(7, 3)),
    ],
)
def test_a_strategy_that_is_named_is_taken_untried(programs, strategy, expected):
    assert plan(programs, strategy)[:3] == (expected, MEMBERS, {})


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("vmap", Plan(3, 8)), ("map", Plan(1, 8)), (2, Plan(2, 8))],
)
def test_on_a_mesh_every_device_has_a_worker(spread_programs, strategy, expected):
    assert plan(spread_programs, strategy).plan == expected


WAYS = [Plan(1, 2), Plan(8, 2), Plan(10, 2), Plan(20, 1), Plan(1, 1)]


@pytest.mark.parametrize("fastest", WAYS, ids=str)
def test_auto_takes_the_fastest_of_all_ways(programs, timed, fastest):
    taken, tried = timed
    taken.update(dict.fromkeys(WAYS, 2.0))
    taken[fastest] = 1.0
    found = plan(programs, "auto")
    assert found[:3] == (fastest, MEMBERS, taken)
    assert set(tried) == set(taken)


def test_auto_tries_no_further_where_the_run_is_shorter_than_the_trying(
    programs, timed
):
    timed[0][Plan(1, 2)] = 1e-9
    found = plan(programs, "auto", num_steps=10)
    assert found[:3] == (Plan(1, 2), MEMBERS, {Plan(1, 2): 1e-9})


def test_a_burst_of_other_work_does_not_decide(programs, monkeypatch):
    true = {Plan(1, 2): 2.0, Plan(8, 2): 3.0, Plan(10, 2): 2.5, Plan(20, 1): 2.6}
    timings = []

    def seconds(population):
        timings.append(population.plan)
        busy = len(timings) <= 3  # the first plan is measured meanwhile
        return true.get(population.plan, 9.0) * (1.6 if busy else 1.0)

    monkeypatch.setattr(planning, "_seconds", seconds)
    chosen = plan(programs, "auto")
    assert chosen.plan == Plan(1, 2)
    assert chosen.tried == true | {Plan(1, 1): 9.0}
    assert timings.count(Plan(1, 1)) == 3  # far behind, and so measured once


def test_auto_measures_what_it_tells(programs, spread_programs):
    for here, members in ((programs, 3), (spread_programs, 9)):
        found = plan(here, "auto", members=members)
        assert len(found.tried) > 1
        assert found.tried[found.plan] == min(found.tried.values())
        assert all(0 < seconds < np.inf for seconds in found.tried.values())


def test_the_seconds_are_those_of_a_step_of_a_member(programs, monkeypatch):
    clock = [0.0]
    members = Population(programs, Plan(MEMBERS, 1), HPARAMS, SEEDS)
    members.alive[5:] = False
    monkeypatch.setattr(planning.time, "perf_counter", lambda: clock[0])

    def advance(steps):
        assert steps <= BUFFER
        clock[0] += 0.001 * steps  # 5 members

    monkeypatch.setattr(members, "advance", advance)
    assert planning._seconds(members) == pytest.approx(0.001 / 5)


@pytest.mark.parametrize(
    ("strategy", "error", "message"),
    [
        ("fast", ValueError, 'strategy must be "auto", "vmap", "map" or a number'),
        (None, ValueError, "strategy must be"),
        (True, ValueError, "strategy must be"),
        (1.5, ValueError, "strategy must be"),
        (0, ValueError, "strategy must be >= 1 members, got 0"),
        (Plan(0, 1), ValueError, "width must be >= 1"),
        (Plan(1, 0), ValueError, "workers must be >= 1"),
        (Plan(1.5, 1), TypeError, "width must be an integer"),
    ],
)
def test_a_bad_strategy_is_refused_in_words(programs, strategy, error, message):
    with pytest.raises(error, match=message):
        plan(programs, strategy)


def test_a_plan_for_another_number_of_devices_is_refused(spread_programs):
    assert plan(spread_programs, Plan(2, 8)).plan == Plan(2, 8)
    with pytest.raises(ValueError, match="must be the devices of the mesh, 8, got 2"):
        plan(spread_programs, Plan(1, 2))


# Memory.


def test_the_bytes_of_a_state_are_those_that_it_has(programs):
    members = Population(programs, Plan(MEMBERS, 1), HPARAMS, SEEDS)
    arrays = members.saved().values()
    expected = sum(array.nbytes for array in arrays) // MEMBERS
    assert state_bytes(programs, HPARAMS, SEEDS) == expected


@pytest.mark.parametrize(("room", "chunk"), [(19, 10), (7, 7), (6, 5), (1, 1)])
def test_in_little_memory_members_go_in_waves_of_one_size(
    programs, monkeypatch, room, chunk
):
    one = 3 * state_bytes(programs, HPARAMS, SEEDS) + 4 * BUFFER
    monkeypatch.setattr(planning, "free_bytes", lambda: (room + 0.5) * one / 0.6)
    assert members_that_fit(programs, HPARAMS, SEEDS) == room
    found = plan(programs, "vmap")
    assert (found.plan, found.chunk) == (Plan(chunk, 1), chunk)


def test_where_not_even_one_member_fits_the_sizes_are_named(monkeypatch):
    large = adaptax.trial(
        lambda key: jnp.ones(2**20),
        lambda w, batch: jnp.sum(w) * jnp.sum(batch),
        lambda rate: optax.sgd(rate, momentum=0.9),
        np.ones((2, 1), np.float32),
    )
    # 4 MiB of parameters and as many of momentum, three times; 60 % of the memory.
    monkeypatch.setattr(planning, "free_bytes", lambda: 20 * 2**20)
    rates = np.float32([0.1, 0.2])
    with pytest.raises(
        ValueError, match="needs about 24 MiB, and only 12 MiB may be used"
    ):
        make_plan(Programs(large, KEY), "auto", rates, np.arange(2), 10)


def test_a_population_in_waves_is_trained_as_if_it_fitted(monkeypatch):
    space = {"learning_rate": adaptax.spaces.log_grid(0.01, 0.3, 7)}
    arguments = {"num_steps": 5, "strategy": "vmap", "progress": False}
    whole = adaptax.sweep(line_trial(), space, **arguments)
    one = 3 * state_bytes(Programs(line_trial(), KEY), HPARAMS, SEEDS) + 4 * BUFFER
    monkeypatch.setattr(planning, "free_bytes", lambda: 3.5 * one / 0.6)
    chunks = adaptax.sweep(line_trial(), space, **arguments)
    assert chunks.about["plan"] == "3 side by side"
    np.testing.assert_allclose(chunks.losses, whole.losses, rtol=1e-4)


def test_the_machine_has_cores_and_memory():
    assert 1 <= usable_workers(None) <= 4096
    assert usable_workers(Mesh(np.array(jax.devices()), ("m",))) == 8
    assert 2**24 < free_bytes() < 2**50


LINUX = {"/proc/meminfo": "MemTotal: 900 kB\nMemAvailable:  500 kB\n"}
SECOND = {
    "/sys/fs/cgroup/memory.max": "400000\n",
    "/sys/fs/cgroup/memory.current": "300000\n",
    "/sys/fs/cgroup/memory.stat": "anon 100000\ninactive_file 70000\nactive_file 5000",
}
FIRST = {
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "300000",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "200000",
    "/sys/fs/cgroup/memory/memory.stat": (
        "inactive_file 1\ntotal_inactive_file 10000\ntotal_active_file 20000"
    ),
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (LINUX, 512000),
        (LINUX | SECOND, 175000),
        (LINUX | SECOND | {"/sys/fs/cgroup/memory.max": "max\n"}, 512000),
        (LINUX | FIRST, 130000),
        ({}, 2**32),
    ],
    ids=["machine", "container", "no limit", "older container", "not Linux"],
)
def test_a_container_may_have_less_memory_than_the_machine(
    monkeypatch, files, expected
):
    def read_text(path):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert free_bytes() == expected
