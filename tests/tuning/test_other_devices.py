"""A run goes on with other devices than it began with, and ends alike."""

from functools import partial

import chex
import jax
import numpy as np
from interruptions import save_always
from jax.sharding import Mesh
from test_digests import OPTIONS, TOOLS, made

import adaptax
from adaptax.tuning.storage.checkpoints import Checkpoints


def test_a_run_goes_on_with_more_devices(tmp_path, monkeypatch):
    save_always(monkeypatch)
    trial = made(adaptax.gradient_descent)
    run = partial(TOOLS["population"], trial, checkpoint=tmp_path, **OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "_keep", lambda *_: None)
        whole = run()
    _, *later = sorted(tmp_path.glob("*.npz"))
    for path in later:
        path.unlink()
    # Three devices hold a multiple of three members; cores held four.
    resumed = run(mesh=Mesh(np.array(jax.devices()[:3]), ("members",)))
    assert resumed.about["resumed"]
    assert resumed.about["plan"] == "one by one, 3 at once"
    chex.assert_trees_all_close(resumed.contents()[0], whole.contents()[0], rtol=1e-5)
