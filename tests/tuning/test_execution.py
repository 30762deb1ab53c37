"""Populations: whatever the plan, each member trains as it would alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from lines import X, Y, line_trial

import adaptax
from adaptax.tuning.running.divergence import PATIENCE
from adaptax.tuning.running.execution import Population
from adaptax.tuning.running.plans import Plan
from adaptax.tuning.running.programs import BUFFER, Programs
from adaptax.tuning.storage.named_arrays import from_arrays, to_arrays
from adaptax.tuning.trials.trials import Trial

KEY = jax.random.key(5)
HPARAMS = {"learning_rate": np.float32([0.01, 0.2, 0.1, 0.05, 0.3])}
SEEDS = np.array([0, 1, 2, 3, 1])
STEPS = 12
PLANS = [Plan(width, workers) for width in (1, 2, 3, 5) for workers in (1, 2)]
FEW_PLANS = [Plan(1, 1), Plan(5, 1), Plan(2, 2)]
# The loss of the last rate is not finite from the second step on.
WITH_ONE_LOST = {"learning_rate": np.float32([0.01, 0.2, 1e30, 0.05, 0.3])}


def judged(w, held_out):
    loss = jnp.mean((held_out["x"] @ w - held_out["y"]) ** 2)
    return loss, {"norm": jnp.linalg.norm(w)}


TRIAL = line_trial(evaluate=judged, eval_data={"x": X, "y": Y})


@pytest.fixture(scope="module")
def programs():
    return Programs(TRIAL, KEY)


@pytest.fixture(scope="module")
def spread_programs():
    return Programs(TRIAL, KEY, Mesh(np.array(jax.devices()), ("members",)))


@pytest.fixture(scope="module")
def alone():
    """The losses, scores and ends of each member, trained by hand on its own."""

    @jax.jit
    def run(hparams, key):
        state, losses = TRIAL.advance(hparams, TRIAL.init(hparams, key), 2 * STEPS)
        end = state._replace(key=jax.random.key_data(state.key))
        return losses, TRIAL.evaluate(hparams, state), end

    found = [
        run({"learning_rate": rate}, jax.random.fold_in(KEY, seed))
        for rate, seed in zip(HPARAMS["learning_rate"], SEEDS, strict=True)
    ]
    return jax.tree.map(lambda *parts: np.stack(parts), *found)


def population(programs, plan, hparams=HPARAMS):
    return Population(programs, plan, hparams, SEEDS)


def trained(population, num_steps):
    return np.concatenate(list(population.run(num_steps)), axis=1)


# Each member as alone.


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_member_trains_as_alone_whatever_the_plan(programs, alone, plan):
    members = population(programs, plan)
    losses = trained(members, STEPS)
    assert (losses.shape, losses.dtype) == ((5, STEPS), np.float32)
    np.testing.assert_allclose(losses, alone[0][:, :STEPS], rtol=1e-4)
    assert members.alive.all()
    assert members.step == STEPS


@pytest.mark.parametrize("plan", FEW_PLANS, ids=str)
def test_scores_and_metrics_are_those_of_the_trial(programs, alone, plan):
    members = population(programs, plan)
    trained(members, 2 * STEPS)
    members.alive[1] = False
    scores, metrics = members.judge()
    expected, expected_metrics = alone[1]
    living = [0, 2, 3, 4]
    assert scores is not None
    np.testing.assert_allclose(scores[living], expected[living], rtol=1e-4)
    assert metrics.keys() == {"norm"}
    norms = expected_metrics["norm"]
    np.testing.assert_allclose(metrics["norm"][living], norms[living], rtol=1e-4)
    assert np.isnan(scores[1])
    assert np.isnan(metrics["norm"][1])


def test_a_trial_without_an_evaluation_gives_no_scores():
    members = population(Programs(line_trial(), KEY), Plan(5, 1))
    assert members.judge() == (None, {})


def test_a_state_is_that_of_the_member_trained_alone(programs, alone):
    members = population(programs, Plan(2, 2))
    trained(members, 2 * STEPS)
    for member in range(5):
        found = members.state(member)
        expected = jax.tree.map(lambda leaf, i=member: leaf[i], alone[2])
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        np.testing.assert_allclose(found.params, expected.params, rtol=1e-4)
        assert found.step == expected.step
        np.testing.assert_array_equal(jax.random.key_data(found.key), expected.key)


def test_one_compilation_serves_any_number_of_steps_and_all_that_happens_between():
    programs = Programs(TRIAL, KEY)
    members = population(programs, Plan(2, 1))
    first = [losses.shape[1] for losses in members.run(1)]
    more = [losses.shape[1] for losses in members.run(2 * BUFFER + 5)]
    assert (first, sum(more), members.step) == ([1], 2 * BUFFER + 5, 2 * BUFFER + 6)
    assert max(more) <= BUFFER
    members.replace([0, 0, 2, 3, 4])
    members.hparams = {"learning_rate": np.full(5, 0.1, np.float32)}
    members.replace([0, 2, 4])
    trained(members, 3)
    restored = population(programs, Plan(2, 1))
    restored.resize(3)
    restored.hparams = members.hparams
    restored.restore(members.saved(), members.step)
    trained(restored, 2)
    names = [compilation.program.name for compilation in programs.compilations]
    assert names.count("train") == 1
    assert names.count("begin") == 1


def test_members_that_share_their_batches_are_at_the_common_step():
    trial = line_trial(batches="shared")
    members = Population(Programs(trial, KEY), Plan(5, 1), HPARAMS, SEEDS)
    losses = np.concatenate([members.advance(3), members.advance(4)], axis=1)
    for member in (0, 3):
        mine = {"learning_rate": HPARAMS["learning_rate"][member]}
        start = trial.init(mine, jax.random.fold_in(KEY, SEEDS[member]))
        _, expected = trial.advance(mine, start, 7)
        np.testing.assert_allclose(losses[member], expected, rtol=1e-4)


def test_hyperparameters_can_be_set_between_calls(programs, alone):
    members = population(programs, Plan(3, 1))
    first = trained(members, STEPS)
    members.hparams = {"learning_rate": np.zeros(5, np.float32)}
    still = members.saved()["[0].params"]
    trained(members, 2)
    np.testing.assert_array_equal(members.saved()["[0].params"], still)
    np.testing.assert_allclose(first, alone[0][:, :STEPS], rtol=1e-4)


# Members that diverge.


@pytest.mark.parametrize("plan", FEW_PLANS, ids=str)
def test_a_member_that_diverges_does_not_disturb_the_others(programs, alone, plan):
    members = population(programs, plan, WITH_ONE_LOST)
    losses = trained(members, STEPS)
    others = [0, 1, 3, 4]
    np.testing.assert_allclose(losses[others], alone[0][others, :STEPS], rtol=1e-4)
    losses = np.append(losses, trained(members, PATIENCE), axis=1)
    np.testing.assert_array_equal(members.alive, [True, True, False, True, True])
    lost = int(np.argmin(np.isfinite(losses[2])))
    assert 1 <= lost < STEPS - 1
    assert np.isfinite(losses[2, :lost]).all()
    assert not np.isfinite(losses[2, lost:]).any()
    assert np.isnan(trained(members, 3)[2]).all()
    scores, _ = members.judge()
    assert scores is not None
    np.testing.assert_array_equal(np.isnan(scores), ~members.alive)


def test_a_group_that_diverged_as_a_whole_takes_no_more_steps(programs):
    members = population(programs, Plan(1, 1), WITH_ONE_LOST)
    trained(members, STEPS + PATIENCE)
    steps = members.saved()["[0].step"]
    assert steps[2] < 5 + PATIENCE
    assert (np.delete(steps, 2) == STEPS + PATIENCE).all()


@pytest.mark.parametrize("plan", [Plan(1, 2), Plan(5, 1)], ids=str)
def test_members_that_are_not_alive_have_nan_for_losses(programs, alone, plan):
    members = population(programs, plan)
    members.alive[[0, 3]] = False
    losses = trained(members, STEPS)
    assert np.isnan(losses[[0, 3]]).all()
    kept = [1, 2, 4]
    np.testing.assert_allclose(losses[kept], alone[0][kept, :STEPS], rtol=1e-4)


# What members do to each other.


@pytest.mark.parametrize("plan", FEW_PLANS, ids=str)
@pytest.mark.parametrize(
    "parents", [[4, 1, 1, 0, 4], [3], [0, 1, 2, 3, 4, 0, 2]], ids=len
)
def test_replaced_members_go_on_as_their_parents_would(programs, plan, parents):
    members, kept = population(programs, plan), population(programs, plan)
    trained(members, 4)
    trained(kept, 4)
    members.alive[2] = False
    members.replace(parents)
    np.testing.assert_array_equal(
        members.hparams["learning_rate"], HPARAMS["learning_rate"][parents]
    )
    np.testing.assert_array_equal(members.alive, np.array(parents) != 2)
    members.alive[:] = True
    expected = trained(kept, 4)[parents]
    np.testing.assert_allclose(trained(members, 4), expected, rtol=1e-4)
    assert members.step == 8


@pytest.mark.parametrize("plan", [*FEW_PLANS, Plan(3, 2), Plan(1, 2)], ids=str)
def test_fewer_members_go_on_as_before(programs, alone, plan):
    members = population(programs, plan)
    trained(members, 4)
    members.replace([1, 2, 4])
    middle = trained(members, 4)
    members.replace([0, 2])
    end = trained(members, 2 * STEPS - 8)
    np.testing.assert_allclose(middle, alone[0][[1, 2, 4], 4:8], rtol=1e-4)
    np.testing.assert_allclose(end, alone[0][[1, 4], 8:], rtol=1e-4)
    scores, _ = members.judge()
    assert scores is not None
    np.testing.assert_allclose(scores, alone[1][0][[1, 4]], rtol=1e-4)


def test_fewer_and_fewer_members_narrow_what_is_side_by_side(programs):
    members = population(programs, Plan(5, 1))
    widths = []
    for left in (4, 3, 2):
        members.replace(np.arange(left))
        widths.append(members.plan.width)
    assert widths == [4, 3, 2]


# What is saved.


@pytest.mark.parametrize("plan", [Plan(1, 1), Plan(2, 2)], ids=str)
def test_what_was_saved_goes_on_bit_by_bit_in_another_process(plan):
    members = population(Programs(TRIAL, KEY), plan)
    trained(members, 4)
    arrays = members.saved()
    assert {array.shape[0] for array in arrays.values()} == {5}
    assert {type(array) for array in arrays.values()} == {np.ndarray}
    expected = trained(members, 5)
    # As in another process, where nothing is compiled yet.
    restored = population(Programs(TRIAL, KEY), plan)
    restored.restore(arrays, 4)
    np.testing.assert_array_equal(trained(restored, 5), expected)
    assert restored.step == 9
    for name, array in members.saved().items():
        np.testing.assert_array_equal(restored.saved()[name], array)


def test_what_fewer_members_saved_can_be_restored_under_another_plan(programs, alone):
    members = population(programs, Plan(5, 1))
    kept = [0, 2, 3, 4]
    members.replace(kept)
    trained(members, 4)
    restored = population(programs, Plan(2, 2))
    restored.resize(4)
    restored.hparams = members.hparams
    restored.restore(members.saved(), members.step)
    np.testing.assert_allclose(trained(restored, 4), alone[0][kept, 4:8], rtol=1e-4)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_are_stored_as_their_data(impl):
    key = jax.random.key(3, impl=impl)
    state = {"key": key, "half": jnp.ones(2, jnp.bfloat16)}
    arrays = to_arrays(state)
    assert arrays["['key']"].dtype == jnp.uint32
    copied = {name: np.asarray(array) for name, array in arrays.items()}
    back = from_arrays(state, copied)
    assert back["key"] == key
    assert back["half"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(back["half"], state["half"])


# Spread over devices.


@pytest.mark.parametrize(("count", "width"), [(5, 1), (19, 2)])
def test_a_mesh_of_devices_gives_the_same(programs, spread_programs, count, width):
    rows = np.arange(count) % 5
    hparams = {"learning_rate": WITH_ONE_LOST["learning_rate"][rows]}

    def story(programs, plan):
        """Train, copy, lose a member, save and restore, and go on with fewer."""
        members = Population(programs, plan, hparams, np.arange(count))
        parts = [trained(members, 4)]
        alive = members.alive
        parents = np.where(members.alive, np.arange(count), 0)
        members.replace(parents)
        parts.append(trained(members, 3))
        members.alive[1] = False
        parts.append(trained(members, 3))
        restored = Population(programs, plan, members.hparams, np.arange(count))
        restored.restore(members.saved(), members.step)
        restored.alive = members.alive.copy()
        restored.replace(np.delete(np.arange(count), 1))
        parts.append(trained(restored, 2))
        scores, metrics = restored.judge()
        first = jax.tree.map(np.asarray, restored.state(0).params)
        return parts, alive, scores, metrics, first

    expected = story(programs, Plan(count, 1))
    found = story(spread_programs, Plan(width, 8))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        finite = np.isfinite(one)
        np.testing.assert_array_equal(finite, np.isfinite(other))
        np.testing.assert_allclose(one[finite], other[finite], rtol=1e-4)


def test_each_device_has_its_share_of_the_members(spread_programs):
    members = Population(
        spread_programs,
        Plan(1, 8),
        {"learning_rate": np.full(16, 0.1, np.float32)},
        np.arange(16),
    )
    trained(members, 2)
    [(states, _)] = members._states
    shards = states.params.addressable_shards
    assert [shard.data.shape for shard in shards] == [(2, 3)] * 8


# What is in memory.


class Recorded(Programs):
    """Programs that keep what was compiled."""

    compiled: dict[str, Any]

    def get(self, program, width, *arguments):
        compiled = super().get(program, width, *arguments)
        self.__dict__.setdefault("compiled", {})[program.name] = compiled
        return compiled


@pytest.mark.parametrize("plan", [Plan(1, 1), Plan(16, 1), Plan(1, 8)], ids=str)
def test_the_data_are_once_in_memory_for_all_members(plan):
    data = np.zeros((2**18, 2), np.float32)
    big = adaptax.trial(
        lambda key: jnp.ones(2),
        lambda w, batch: jnp.mean((batch @ w) ** 2),
        adaptax.gradient_descent,
        data,
        4,
    )
    mesh = Mesh(np.array(jax.devices()), ("m",)) if plan.workers == 8 else None
    programs = Recorded(big, KEY, mesh)
    members = Population(programs, plan, np.full(16, 0.1, np.float32), np.arange(16))
    members.advance(1)
    sizes = programs.compiled["train"].memory_analysis()
    assert data.nbytes <= sizes.argument_size_in_bytes < 1.1 * data.nbytes
    assert sizes.temp_size_in_bytes < 0.1 * data.nbytes
    states = sum(array.nbytes for array in members.saved().values())
    assert sizes.alias_size_in_bytes >= states // plan.workers  # given away


# Trials of other kinds.


def test_a_trial_without_data_is_called_without_them():
    def advance(hparams, state, num_steps):
        assert num_steps == 1
        return state - hparams["a"]["b"], state[None]

    trial = Trial(lambda hparams, key: jnp.float32(1) * hparams["a"]["c"], advance)
    hparams = {"a": {"b": np.float32([0.5, 1.0, 2.0]), "c": np.int32([1, 2, 3])}}
    with jax.numpy_dtype_promotion("standard"):
        members = Population(Programs(trial, KEY), Plan(2, 1), hparams, np.arange(3))
        losses = members.advance(3)
    expected = [[1, 0.5, 0], [2, 1, 0], [3, 1, -1]]
    np.testing.assert_array_equal(losses, np.float32(expected))


# Plans.


def test_a_plan_says_how_it_runs():
    assert str(Plan(1, 1)) == "one by one"
    assert str(Plan(8, 2)) == "8 side by side, 2 at once"


@pytest.mark.parametrize("members", [1, 2, 5, 8, 16, 17])
@pytest.mark.parametrize("plan", [Plan(1, 2), Plan(3, 1), Plan(8, 4)], ids=str)
def test_a_fitted_plan_has_room_for_all_and_no_empty_lane(plan, members):
    fitted = plan.fitted(members, None)
    room = fitted.workers * fitted.worker_length(members)
    assert members <= room < members + fitted.workers * fitted.width
    assert fitted.workers <= members
    assert fitted.width <= plan.width
    assert fitted.worker_length(members) % fitted.width == 0
