"""What the directions refuse when they are made."""

import jax.numpy as jnp
import numpy as np
import pytest

import adaptax


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("scale_by_adabelief", {"eps_root": -1e-16}),
        ("scale_by_radam", {"threshold": 3.9}),
        ("scale_by_radam", {"threshold": np.nan}),
        ("scale_by_nadam", {"b1": 1.0}),
        ("scale_by_lamb", {"weight_decay": -0.1}),
        ("scale_by_adopt", {"eps": -1.0}),
        ("scale_by_ademamix", {"b3": 1.0}),
        ("scale_by_ademamix", {"alpha": -1.0}),
        ("scale_by_ademamix", {"warmup_steps": -1}),
        ("scale_by_adan", {"b2": jnp.asarray(1.5)}),
        ("scale_by_muon", {"b": -0.1}),
        ("scale_by_muon", {"consistent_rms": 0.0}),
        ("scale_by_muon", {"other_scale": -1.0}),
        ("scale_by_muon", {"steps": 0}),
    ],
)
def test_an_argument_out_of_its_range_is_named(factory, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"^{name} must be"):
        getattr(adaptax, factory)(**arguments)
