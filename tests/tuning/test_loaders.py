"""Streams of Grain and torch: the same batches from any step, and from a state."""

import itertools
import json

import jax
import numpy as np
import pytest

import adaptax
from adaptax.tuning.storage import loader_states
from adaptax.tuning.trials.streams import Cursor

X = np.arange(30, dtype=np.float32).reshape(10, 3)


def of_grain():
    """Make a shuffled dataset, whose iterators have a state."""
    grain = pytest.importorskip("grain")
    examples = grain.MapDataset.range(len(X)).shuffle(seed=1)
    return examples.map(lambda i: X[i]).batch(4, drop_remainder=True)


class Source:
    """A source whose text is the same in every process."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index]

    def __repr__(self):
        return "Source()"


def of_grains_loader():
    grain = pytest.importorskip("grain")
    sampler = grain.samplers.IndexSampler(
        num_records=len(X),
        shuffle=True,
        seed=0,
        num_epochs=1,
        shard_options=grain.sharding.NoSharding(),
    )
    return grain.DataLoader(
        data_source=Source(),
        sampler=sampler,
        worker_count=0,
        operations=[grain.transforms.Batch(4, drop_remainder=True)],
    )


def of_torch():
    """Make a loader of tensors, in order, without a state."""
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X)), 4, drop_last=True
    )


def shuffled_by_torch(start):
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X)),
        batch_size=4,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(0),
    )
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    return itertools.islice(epochs, start, None)


def of_torchdata():
    """Make a shuffling loader whose sampler has a generator for itself."""
    torch = pytest.importorskip("torch")
    loaders = pytest.importorskip("torchdata.stateful_dataloader")
    samplers = pytest.importorskip("torchdata.stateful_dataloader.sampler")
    examples = torch.utils.data.TensorDataset(torch.from_numpy(X))
    generator = torch.Generator().manual_seed(0)
    sampler = samplers.RandomSampler(examples, generator=generator)
    return loaders.StatefulDataLoader(examples, 4, sampler=sampler, drop_last=True)


def read(cursor, steps):
    """Return some batches, (steps, …), from wherever a cursor is."""
    return np.stack([jax.tree.leaves(cursor.next(99))[0] for _ in range(steps)])


REPEATED = [of_grain, of_grains_loader, of_torch, lambda: shuffled_by_torch]


@pytest.mark.parametrize("make", REPEATED)
def test_a_loader_gives_the_same_batches_from_any_step(make):
    whole = read(Cursor(adaptax.stream(make()), 0), 7)  # over three epochs
    assert whole.shape == (7, 4, 3)
    assert len(np.unique(whole[:2].reshape(-1, 3), axis=0)) == 8
    for start in (1, 2, 5):
        found = read(Cursor(adaptax.stream(make()), start), 7 - start)
        np.testing.assert_array_equal(found, whole[start:])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata
@pytest.mark.parametrize("make", [of_grain, of_grains_loader, of_torchdata])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_state_from_a_checkpoint_goes_on_without_reading_again(make, step):
    cursor = Cursor(adaptax.stream(make()), 0)
    read(cursor, step)
    saved = json.dumps(loader_states.encode(cursor.state()))
    expected = read(cursor, 3)
    state = loader_states.decode(json.loads(saved))
    again = Cursor(adaptax.stream(make()), step + 1, mark=(step, state))
    np.testing.assert_array_equal(read(again, 2), expected[1:])


def test_a_state_that_is_not_accepted_is_warned_about_and_the_batches_read_again():
    class Loader(list):
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            raise ValueError("of another dataset")

    stream = adaptax.stream(Loader(X))
    with pytest.warns(RuntimeWarning, match=r"read again: of another dataset"):
        cursor = Cursor(stream, 5, mark=(4, {}))
    np.testing.assert_array_equal(cursor.next(9), X[5])


def test_a_ragged_last_batch_of_torch_is_refused_with_the_remedy():
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(torch.from_numpy(X), batch_size=4)
    cursor = Cursor(adaptax.stream(loader), 0)
    with pytest.raises(ValueError, match=r"step 2 has the shape \(2, 3\).*drop_last"):
        read(cursor, 3)
