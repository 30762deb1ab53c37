"""States of loaders are saved as JSON, and come back as they were."""

import json

import numpy as np
import pytest

from adaptax.tuning.storage import loader_states

STATES = [
    None,
    3,
    {"next_index": 2, "nested": {0: [1, (2.5, None)], "flag": True}},
    b"\x00state",
    {"generator": np.arange(5, dtype=np.uint8), "seed": np.int64(7)},
    float("nan"),
]


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_a_state_comes_back_as_it_was(state):
    found = loader_states.decode(json.loads(json.dumps(loader_states.encode(state))))
    assert repr(found) == repr(state)


def test_a_state_that_json_cannot_hold_is_none():
    assert loader_states.encode({"object": object()}) is None
    assert loader_states.encode(np.array([object()])) is None


def test_a_tensor_comes_back_as_a_tensor():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(5, dtype=torch.uint8)
    found = loader_states.decode(loader_states.encode({"generator": tensor}))
    assert found["generator"].dtype == torch.uint8
    assert found["generator"].tolist() == tensor.tolist()
