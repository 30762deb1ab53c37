"""Streams: what they may be, the batches that they give, and their mistakes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_digests import OPTIONS, TOOLS, squares

import adaptax
from adaptax.tuning.trials.streams import Cursor

BATCHES = np.random.default_rng(0).uniform(1, 2, (7, 4, 3)).astype(np.float32)


def from_step(start):
    """Return the batches of a list from a step on."""
    for step in itertools.count(start):
        yield BATCHES[step % len(BATCHES)]


class Loader:
    """What can be iterated again, and counts the batches that it has given."""

    def __init__(self, batches=BATCHES):
        self.batches, self.given = batches, 0

    def __iter__(self):
        for batch in self.batches:
            self.given += 1
            yield batch


def made(data, loss=squares, **options):
    return adaptax.trial(
        lambda key: jax.random.normal(key, (3,), jnp.float32),
        loss,
        lambda hparams: adaptax.gradient_descent(hparams["learning_rate"]),
        data,
        **options,
    )


def swept(data, steps=9, checkpoint=None, **options):
    space = {"learning_rate": [0.01, 0.1]}
    trial = made(adaptax.stream(data), **options)
    return adaptax.sweep(
        trial, space, num_steps=steps, checkpoint=checkpoint, **OPTIONS
    )


def expected_losses(rates, batches):
    """Train the members of a sweep by a Python loop."""
    found = []
    for rate in rates:
        w = np.array(
            made(BATCHES[0]).init({"learning_rate": rate}, member_key()).params
        )
        losses = []
        for batch in batches:
            losses.append(np.mean(batch @ w**2))
            w = w - rate * 2 * w * batch.mean(axis=0)
        found.append(losses)
    return np.array(found)


def member_key():
    return jax.random.fold_in(jax.random.key(0), 0)


def test_step_i_of_every_member_has_batch_i_and_the_score_is_the_mean_of_batches():
    def judged(w, batch):
        return squares(w, batch), {"first": batch[0, 0]}

    held_out = Loader(BATCHES[:3])
    found = swept(from_step, evaluate=judged, eval_data=adaptax.stream(held_out))
    seen = [BATCHES[step % 7] for step in range(9)] + [np.concatenate(BATCHES[:3])]
    expected = expected_losses([0.01, 0.1], seen)
    np.testing.assert_allclose(found.losses[:, 0], expected[:, :9], rtol=1e-5)
    np.testing.assert_allclose(found.scores[:, 0], expected[:, 9], rtol=1e-5)
    first = BATCHES[:3, 0, 0].mean()
    np.testing.assert_allclose(found.metrics["first"], first, rtol=1e-6)
    assert held_out.given == 3  # it is read once, with its first batch


# The others differ from these only by their rules.
@pytest.mark.parametrize("tool", ["finder", "halving", "population", "branch", "rule"])
def test_every_tool_trains_on_a_stream(tool):
    loader = Loader()
    result = TOOLS[tool](made(adaptax.stream(loader)), **OPTIONS)
    losses = next(
        array for name, array in result.contents()[0].items() if "losses" in name
    )
    assert np.isfinite(losses).any()
    assert loader.given >= 9


def test_a_trial_run_by_hand_reads_the_batches_of_its_steps():
    trial = made(adaptax.stream(from_step), eval_data=adaptax.stream(BATCHES[:2]))
    hparams = {"learning_rate": 0.1}
    state = trial.init(hparams, member_key())
    losses = []
    for steps in (2, 3):
        state, some = trial.advance(hparams, state, steps)
        losses.extend(some)
    expected = expected_losses([0.1], BATCHES[:5])[0]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    score = trial.evaluate(hparams, state)
    np.testing.assert_allclose(
        score, squares(state.params, BATCHES[:2].reshape(-1, 3)), rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"inside of jit or vmap.*adaptax\.Shared"):
        jax.jit(trial.advance, static_argnums=2)(hparams, state, 2)
    shared = adaptax.Shared((BATCHES[5], None), state.step)
    _, (loss,) = trial.advance(hparams, state, 1, shared=shared)
    np.testing.assert_allclose(loss, squares(state.params, BATCHES[5]), rtol=1e-5)
    with pytest.raises(ValueError, match="num_steps must be 1"):
        trial.advance(hparams, state, 2, shared=shared)


def test_a_hand_written_trial_gets_the_batch_of_the_step():
    def advance(hparams, total, num_steps, shared):
        batch = shared.data["batch"] + shared.data["offset"]
        return total + hparams["rate"], jnp.sum(batch)[None]

    trial = adaptax.Trial(
        init=lambda hparams, key, shared: 0 * hparams["rate"],
        advance=advance,
        data={"batch": adaptax.stream(BATCHES), "offset": np.float32(1)},
    )
    found = adaptax.sweep(trial, {"rate": [1.0]}, num_steps=8, **OPTIONS)
    sums = [BATCHES[step % 7].sum() + 12 for step in range(8)]
    np.testing.assert_allclose(found.losses[0, 0], sums, rtol=1e-5)


def from_source(source, start=0):
    return Cursor(adaptax.stream(source), start)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (iter(BATCHES), r"must not be an iterator.*read only once.*function"),
        ((batch for batch in BATCHES), "must not be an iterator, got generator"),
        ({"x": BATCHES}, "got a dict.*without adaptax.stream"),
        ("batches", "got a str"),
        (3, "must be a function of the first step or an iterable, got int"),
        (None, "got NoneType"),
        (lambda: BATCHES, "function of the first step, which is its only argument"),
    ],
    ids=["iterator", "generator", "dict", "text", "number", "nothing", "function"],
)
def test_what_cannot_be_opened_at_a_step_is_refused(source, words):
    with pytest.raises(TypeError, match=words):
        adaptax.stream(source)


def test_a_function_that_returns_no_iterator_is_named():
    with pytest.raises(TypeError, match="must return an iterator, got NoneType"):
        from_source(lambda start: None)


@pytest.mark.parametrize("source", [[], lambda start: [], Loader([])])
def test_a_stream_that_ends_at_once_is_refused(source):
    with pytest.raises(ValueError, match=r"data: the stream is empty.*no batch"):
        from_source(source).next(3)


def test_a_function_whose_iterator_ends_too_early_says_where():
    words = r"ended before step 7, and the run needs the batches of 9.*itertools\.cycle"
    with pytest.raises(ValueError, match=words):
        swept(lambda start: iter(BATCHES[start:]))
    assert swept(lambda start: iter(BATCHES[start:]), steps=7).losses.shape[-1] == 7


def test_an_iterable_that_can_be_iterated_once_only_is_named():
    class Once:
        batches = iter(BATCHES)

        def __iter__(self):
            return self.batches

    cursor = from_source(Once())
    for _ in range(7):
        cursor.next(9)
    with pytest.raises(ValueError, match=r"ended at step 7.*again gives no batch"):
        cursor.next(9)


@pytest.mark.parametrize("start", [0, 3, 7, 16])
@pytest.mark.parametrize("source", [from_step, list(BATCHES), Loader()])
def test_a_stream_is_opened_at_any_step(source, start):
    cursor = from_source(source, start)
    for step in range(start, start + 9):
        np.testing.assert_array_equal(cursor.next(99), BATCHES[step % 7])
    assert cursor.step == start + 9


X, Y = np.ones((4, 2), np.float32), np.ones(4, np.int32)


@pytest.mark.parametrize(
    ("other", "kind", "words"),
    [
        (
            {"x": X[:3], "y": Y[:3]},
            ValueError,
            r"shape \(3, 2\) at batch\['x'\].*"
            r"first one has \(4, 2\).*drop_last=True.*drop_remainder=True",
        ),
        ({"x": X}, ValueError, "another structure"),
        ((X, Y), ValueError, "another structure"),
        ({"x": X, "y": Y.astype(float)}, ValueError, r"dtype float64 at batch\['y'\]"),
        ({"x": X, "y": "label"}, TypeError, r"got str at batch\['y'\]"),
        ({"x": X, "y": iter(Y)}, TypeError, r"at batch\['y'\]"),
        ({"x": X, "y": [Y, None]}, ValueError, "another structure"),
    ],
)
def test_a_batch_that_is_not_like_the_first_is_refused(other, kind, words):
    cursor = from_source([{"x": X, "y": Y}, other])
    cursor.next(9)
    with pytest.raises(kind, match="(?s)data: the batch of step 1 .*" + words):
        cursor.next(9)


def test_numbers_and_nested_batches_are_read_as_arrays():
    batch = from_source([([X, (2, 0.5)], None)]).next(1)
    assert jax.tree.map(lambda leaf: leaf.shape, batch) == ([(4, 2), ((), ())], None)


def test_a_batch_size_and_a_stream_within_the_data_are_refused():
    stream = adaptax.stream(BATCHES)
    with pytest.raises(ValueError, match="batch_size must be None with a stream"):
        made(stream, batch_size=4)
    with pytest.raises(TypeError, match="A stream must be the whole of data"):
        made({"x": stream})
    with pytest.raises(TypeError, match="A stream must be the whole of eval_data"):
        made(stream, eval_data=[stream])


@pytest.mark.parametrize("data", [iter(BATCHES), Loader(), from_step])
def test_batches_without_a_stream_are_refused_with_the_remedy(data):
    with pytest.raises(TypeError, match=r"write data=adaptax\.stream"):
        made(data)


def test_two_streams_in_the_data_of_a_trial_are_refused():
    pair = adaptax.stream(BATCHES), adaptax.stream(BATCHES)
    trial = adaptax.Trial(
        init=lambda hparams, key, shared: hparams,
        advance=lambda hparams, state, num_steps, shared: state,
        data=pair,
    )
    with pytest.raises(ValueError, match="may have one stream, got two"):
        adaptax.sweep(trial, {"rate": [1.0]}, num_steps=1, **OPTIONS)
