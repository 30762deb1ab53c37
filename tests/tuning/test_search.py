"""Schedule search: what evolves, what is promised of it, and what comes of trouble."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from interruptions import check_resuming, save_always
from lines import X, Y, line_trial

import adaptax
from adaptax import plots, spaces
from adaptax.tuning.analysis.cosine_baselines import cosine_grid, drawn_cosines
from adaptax.tuning.running import planning
from adaptax.tuning.search_rule import ScheduleSearch

STEPS, KNOTS = 24, 3
STAGES = "cosines", "choice", "verdict"


def mean_squared_error(w, held_out):
    errors = held_out["x"] @ w - held_out["y"]
    return (errors**2).mean(), {"worst": abs(errors).max()}


def judged_line(optimizer=adaptax.gradient_descent):
    return line_trial(
        optimizer, evaluate=mean_squared_error, eval_data={"x": X, "y": Y}
    )


def run(trial=None, **options):
    options = {
        "num_steps": STEPS,
        "knots": KNOTS,
        "low": 1e-3,
        "high": 2.0,
        "population": 6,
        "generations": 4,
        "seeds": 2,
        "fresh_seeds": 3,
        "strategy": "vmap",
        "progress": False,
        **options,
    }
    return adaptax.search_schedule(trial or judged_line(), **options)


@pytest.fixture(scope="module")
def stages():
    """What `found` trained: the rates and the seeds of each stage."""
    return {}


@pytest.fixture(scope="module")
def found(stages):
    make, names = ScheduleSearch._round, iter([*map(str, range(4)), *STAGES])

    def spied(self, rates, seeds, keep=True):
        stages[next(names)] = rates, seeds
        return make(self, rates, seeds, keep)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScheduleSearch, "_round", spied)
        return run()


def test_the_winner_trained_anew_gives_the_promised_losses_and_scores(found, stages):
    trial = judged_line(lambda rate: adaptax.gradient_descent(found.schedule))
    for row, seed in enumerate(stages["verdict"][1]):
        hparams = {"learning_rate": 0.0}
        key = jax.random.fold_in(jax.random.key(0), seed)
        state, losses = trial.advance(hparams, trial.init(hparams, key), STEPS)
        np.testing.assert_allclose(found.losses[row], losses, rtol=1e-4)
        score, metrics = trial.evaluate(hparams, state)
        np.testing.assert_allclose(found.scores[row], score, rtol=1e-4)
        np.testing.assert_allclose(found.metrics["worst"][row], metrics["worst"], 1e-4)


def test_the_baseline_trained_anew_gives_the_promised_losses(found, stages):
    trial = judged_line(lambda rate: adaptax.gradient_descent(found.baseline.schedule))
    hparams = {"learning_rate": 0.0}
    key = jax.random.fold_in(jax.random.key(0), stages["verdict"][1][0])
    _, losses = trial.advance(hparams, trial.init(hparams, key), STEPS)
    np.testing.assert_allclose(found.baseline.losses[0], losses, rtol=1e-4)


def test_seeds_are_common_to_a_generation_and_fresh_where_it_is_judged(stages):
    generations = [stages[str(g)][1].tolist() for g in range(4)]
    assert generations == [[0, 1], [2, 3], [4, 5], [6, 7]]
    searched = {seed for seeds in generations for seed in seeds}
    searched |= set(stages["cosines"][1].tolist())
    choice, verdict = (set(stages[name][1].tolist()) for name in ("choice", "verdict"))
    assert len(choice) == len(verdict) == 3
    assert not searched & choice
    assert not (searched | choice) & verdict


def test_the_baseline_is_given_as_many_runs_as_the_search(stages):
    rates, seeds = stages["cosines"]
    assert 40 <= len(rates) * len(seeds) <= 4 * 6 * 2
    finalists, _ = stages["choice"]
    assert len(finalists) == 2 * 5


def test_the_first_generation_is_a_grid_of_constants_and_all_stay_in_bounds(found):
    np.testing.assert_allclose(
        np.exp(found.candidates[0]),
        np.tile(np.geomspace(1e-3, 2.0, 6)[:, None], KNOTS),
        rtol=1e-5,
    )
    low, high = np.log(1e-3) - 1e-5, np.log(2.0) + 1e-5
    assert ((found.candidates >= low) & (found.candidates <= high)).all()
    assert len(np.unique(found.candidates[1:])) == found.candidates[1:].size


def test_a_candidate_is_scored_by_its_mean_over_the_seeds_of_its_generation(found):
    sweeps = adaptax.sweep(
        judged_line(),
        {"learning_rate": np.exp(found.candidates[0, :, 0]).tolist()},
        num_steps=STEPS,
        seeds=2,
        strategy="vmap",
        progress=False,
    )
    means = sweeps.scores.mean(axis=1)
    np.testing.assert_allclose(found.history[0], means, rtol=1e-4)


def test_the_winner_is_a_finalist_and_the_best_of_them_by_the_choosing_seeds(
    found, stages
):
    rates, seeds = stages["choice"]
    chosen = [
        int((rates == rate).all(axis=1).argmax()) for rate in stages["verdict"][0]
    ]
    again = adaptax.sweep(
        judged_line(lambda index: adaptax.gradient_descent(table_of(rates, index))),
        {"learning_rate": list(range(10))},
        num_steps=STEPS,
        seeds=seeds.tolist(),
        strategy="vmap",
        progress=False,
    ).scores.mean(axis=1)
    assert chosen == [int(again[:5].argmin()), 5 + int(again[5:].argmin())]


def table_of(rates, index):
    return lambda step: jnp.asarray(rates)[index.astype(jnp.int32), step]


def test_one_compilation_serves_the_whole_search(found):
    assert found.about["compilations"] == 1
    runs = 4 * 6 * 2 + len(cosine_grid(1e-3, 2.0, 48)[0]) + 10 * 3 + 2 * 3
    assert found.about["member_steps"] == runs * STEPS


def test_the_search_beats_every_constant_where_the_best_schedule_decays():
    noisy = noisy_bowl()
    searched = run(
        noisy,
        num_steps=40,
        knots=4,
        population=12,
        generations=8,
        seeds=16,
        fresh_seeds=64,
        low=1e-3,
        high=1.9,
    )
    first = max(16 * 8, cosine_grid(1e-3, 1.9, 12 * 8 * 16)[1]) + 64
    constants = adaptax.sweep(
        noisy,
        {"learning_rate": spaces.log_grid(1e-3, 1.0, 24)},
        num_steps=40,
        seeds=list(range(first, first + 64)),
        strategy="vmap",
        progress=False,
    )
    means = constants.scores.mean(axis=1)
    assert searched.score < 0.8 * means.min()
    start, end = searched.schedule(0), searched.schedule(39)
    assert end < 0.5 * start


def noisy_bowl():
    """Make a trial that descends w²/2 with noise of size 1 in its gradients.

    With η_t = 1/(t + 1), w ends as the mean of the noise; a constant rate η leaves η/2.
    """

    def init(hparams, key):
        return jnp.full((), 3.0), key, jnp.zeros((), jnp.int32)

    def advance(hparams, state, num_steps):
        def take_step(state, _):
            w, key, step = state
            noise = jax.random.normal(jax.random.fold_in(key, step))
            later = w - hparams["learning_rate"] * (w + noise)
            return (later, key, step + 1), w**2 / 2

        return jax.lax.scan(take_step, state, None, num_steps)

    return adaptax.Trial(init, advance, lambda hparams, state: state[0] ** 2 / 2)


def test_the_gain_is_the_mean_difference_by_seed_and_its_standard_error(found):
    differences = found.baseline.scores - found.scores
    assert found.gain.difference == pytest.approx(
        found.baseline.score - found.score, rel=1e-3
    )
    expected = np.sqrt(differences.var(ddof=1) / 3)
    assert found.gain.standard_error == pytest.approx(expected)


def test_candidates_that_diverge_do_not_stop_the_search():
    wild = run(judged_line(optax.sgd), high=1e8, baseline=False)
    assert np.isinf(wild.history).any()
    assert np.isfinite(wild.score)
    assert np.isfinite(wild.history[1:].min(axis=1)).all()
    assert wild.schedule(0) < 10
    assert wild.baseline is wild.gain is None
    assert "diverged" in wild.table()
    crosses = plots.search(wild).axes[1].lines[7]
    assert set(crosses.get_xdata()) == set(
        np.flatnonzero(np.isinf(wild.history).any(1))
    )


def test_a_search_in_which_all_diverges_says_so():
    with pytest.raises(FloatingPointError, match="every constant rate from 1e\\+05"):
        run(judged_line(optax.sgd), low=1e5, high=1e8)


def test_without_an_evaluation_the_score_is_the_loss_of_the_last_tenth():
    plain = run(line_trial(), generations=2)
    np.testing.assert_allclose(plain.scores, plain.losses[:, -3:].mean(axis=1))
    assert plain.metrics == {}


def test_the_other_hyperparameters_are_constants():
    def with_decay(hparams):
        return adaptax.adamw(hparams["rate"], weight_decay=hparams["decay"])

    trial = adaptax.trial(
        lambda key: jnp.ones(3),
        lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2),
        with_decay,
        {"x": X, "y": Y},
        8,
    )
    options = {"name": "rate", "generations": 2, "baseline": False}
    little = run(trial, hparams={"decay": 0.0}, **options)
    much = run(trial, hparams={"decay": 3.0}, **options)
    np.testing.assert_array_equal(little.candidates[0], much.candidates[0])
    assert little.history[0].min() < 0.5 * much.history[0].min()


@pytest.mark.parametrize("strategy", ["map", 5])
def test_results_do_not_depend_on_the_strategy_beyond_rounding(found, strategy):
    other = run(strategy=strategy)
    np.testing.assert_allclose(other.history[0], found.history[0], rtol=1e-4)
    np.testing.assert_allclose(other.score, found.score, rtol=0.02)


def test_a_mesh_of_8_devices_gives_the_same(found):
    spread = run(mesh=jax.make_mesh((8,), ("members",)))
    np.testing.assert_allclose(spread.history[0], found.history[0], rtol=1e-4)
    np.testing.assert_allclose(spread.score, found.score, rtol=0.02)


def test_waves_that_fit_the_memory_give_the_same(found, monkeypatch):
    monkeypatch.setattr(planning, "members_that_fit", lambda *_: 5)
    check_same(run(), found, rtol=1e-4)


# A chunk takes 3 calls: the 4 generations 3 each, the cosines 12, the choice 9, and the
# verdict 3.
@pytest.mark.parametrize("calls", [2, 8, 15, 28, 34])
def test_an_interrupted_search_goes_on_to_the_same_bits(
    found, calls, monkeypatch, tmp_path
):
    check_same(check_resuming(run, calls, monkeypatch, tmp_path), found)


def check_same(result, expected, rtol=0.0):
    for name in ("log_rates", "losses", "scores", "history", "candidates"):
        there, here = getattr(result, name), getattr(expected, name)
        np.testing.assert_allclose(there, here, rtol=rtol, err_msg=name)
    assert result.baseline.peak == expected.baseline.peak
    assert result.baseline.warmup_share == expected.baseline.warmup_share
    np.testing.assert_allclose(
        result.baseline.scores, expected.baseline.scores, rtol=rtol
    )


def test_a_checkpoint_of_another_search_is_refused(monkeypatch, tmp_path):
    save_always(monkeypatch)
    run(checkpoint=tmp_path, generations=2, baseline=False)
    with pytest.raises(ValueError, match="knots = 3 there and 4 here"):
        run(checkpoint=tmp_path, generations=2, baseline=False, knots=4)


@pytest.mark.parametrize("baseline", [True, False])
def test_a_saved_result_is_loaded_whole(found, baseline, tmp_path):
    if not baseline:
        found = run(generations=2, baseline=False)
    found.save(tmp_path / "search.npz")
    loaded = adaptax.SearchResult.load(tmp_path / "search.npz")
    assert loaded.about == found.about
    assert loaded.gain == found.gain
    assert loaded.to_records() == found.to_records()
    assert loaded.table() == found.table()
    steps = np.arange(STEPS)
    np.testing.assert_array_equal(loaded.schedule(steps), found.schedule(steps))
    np.testing.assert_array_equal(loaded.metrics["worst"], found.metrics["worst"])
    if baseline:
        check_same(loaded, found)
        np.testing.assert_array_equal(
            loaded.baseline.schedule(steps), found.baseline.schedule(steps)
        )
        np.testing.assert_array_equal(
            loaded.baseline.metrics["worst"], found.baseline.metrics["worst"]
        )
    with pytest.raises(ValueError, match="schedule search"):
        adaptax.SweepResult.load(tmp_path / "search.npz")


def test_records_and_table_show_the_rates_at_the_knots(found):
    rows = found.to_records()
    assert len(rows) == 4 * 6
    last = rows[-1]
    assert (last["generation"], last["candidate"]) == (3, 5)
    assert last["score"] == pytest.approx(found.history[3, 5])
    rates = [last["rate at 0"], last["rate at 12"], last["rate at 23"]]
    np.testing.assert_allclose(np.log(rates), found.candidates[3, 5], rtol=1e-5)
    assert "rate at 23" in found.table()
    assert len(found.table(rows=2).splitlines()) == 4


def test_the_plot_shows_both_schedules_and_the_scores(found, tmp_path):
    figure = plots.search(found)
    left, right = figure.axes
    searched, _, cosine = left.lines
    steps = np.arange(STEPS)
    np.testing.assert_array_equal(searched.get_ydata(), found.schedule(steps))
    drawn = cosine.get_ydata()
    kept = np.isfinite(drawn)
    expected = found.baseline.schedule(steps)
    np.testing.assert_array_equal(drawn[kept], np.asarray(expected)[kept])
    assert kept.sum() >= STEPS - 1
    scores = np.stack([line.get_ydata() for line in right.lines[:6]], axis=1)
    diverged = np.isinf(found.history)
    np.testing.assert_array_equal(scores, np.where(diverged, np.nan, found.history))
    figure.savefig(tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000


def test_cosines_are_drawn_as_the_schedule_gives_them():
    pairs, _ = cosine_grid(0.01, 1.0, 40)
    drawn = drawn_cosines(pairs, 50)
    for (peak, share), rates in zip(pairs, drawn, strict=True):
        schedule = adaptax.cosine(peak, 50, warmup_steps=round(share * 50))
        np.testing.assert_allclose(rates, schedule(np.arange(50)), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("runs", [8, 30, 100, 1000])
def test_the_grid_of_cosines_takes_no_more_runs_than_it_may(runs):
    grid, seeds = cosine_grid(1e-4, 1.0, runs)
    assert 0.7 * runs < len(grid) * seeds <= runs
    assert grid[:, 0].min() == pytest.approx(1e-4)
    assert grid[:, 0].max() == pytest.approx(1.0)
    assert set(grid[:, 1]) == {0.0, 0.05, 0.1, 0.25}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_steps": 1}, ValueError, "num_steps"),
        ({"knots": 1}, ValueError, "knots"),
        ({"knots": 25}, ValueError, "knots must be <= num_steps, got 25 > 24"),
        ({"knots": 2.5}, TypeError, "knots"),
        ({"low": 0.0}, ValueError, "low"),
        ({"low": 2.0}, ValueError, "low must be < high, got 2.0 >= 2.0"),
        ({"high": float("inf")}, ValueError, "high"),
        ({"population": 3}, ValueError, "population"),
        ({"generations": 1}, ValueError, "generations"),
        ({"seeds": 0}, ValueError, "seeds"),
        ({"fresh_seeds": 1}, ValueError, "fresh_seeds"),
        ({"algorithm": "CMAES"}, ValueError, "algorithm must be one of 'CMA_ES'"),
        ({"hparams": {"learning_rate": 0.1}}, ValueError, "name="),
        ({"hparams": {"b1": [0.8, 0.9]}}, ValueError, "hparams must be constants"),
        ({"strategy": "pmap"}, ValueError, "strategy"),
        ({"key": "a"}, TypeError, "key"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


def test_without_evosax_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "evosax", None)
    with pytest.raises(ImportError, match=r'pip install "adaptax\[tools\]"'):
        run()
