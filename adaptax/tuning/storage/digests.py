"""Digests: a description of a run in named parts, to compare with that of another run.

    programs         the lowered init, advance and evaluate of one member, with the
                     arrays that they close over
    state            the names, dtypes and shapes of the arrays in a member's state
    data             each array of the trial's data: dtype, shape and bytes; for a
                     stream those of its first batch
    configuration    the settings of JAX that affect results
    versions         the versions of the packages that affect results

Lowering traces the programs but does not compile them. Short values are stored as they
are, so that a message can show them; long ones by dtype, shape, ends and a SHA-256.
"""

import hashlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax.tuning.running.planning import first_state
from adaptax.tuning.running.programs import BEGIN, JUDGE, TRAIN, Programs, types_of

_CHUNK = 2**24  # bytes
_SHORT = 6  # values to show
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
)
_PACKAGES = ("adaptax", "jax", "jaxlib", "numpy", "optax")
_DECIDING = ("adaptax", "jax", "numpy")


def of_run(programs: Programs, hparams: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Describe a run as plain JSON; equal descriptions mean equal runs.

    Args:
        programs: The programs of the trial.
        hparams: The members' hyperparameters, with a leading axis; only the types of
            the first member are used.
        facts: Other values that determine the results: numbers, text and pytrees of
            arrays.
    """
    states, lowered = _lowered(programs, hparams)
    return {
        **{name: _fact(value) for name, value in facts.items()},
        "key": f"{programs.key_type} {described(programs.key_data)}",
        "programs": lowered,
        "state": _leaves(states, _typed),
        "data": _leaves(programs.host_data, described),
        "configuration": {
            "platform": jax.default_backend(),
            **{name: str(getattr(jax.config, name)) for name in _SETTINGS},
        },
        "versions": versions(),
    }


def of_arguments(facts: dict[str, Any], key: Any) -> dict[str, Any]:
    """Describe what determines the decisions of a tool, without a trial.

    Args:
        facts: See `of_run`.
        key: The key of all randomness.
    """
    return {
        **{name: _fact(value) for name, value in facts.items()},
        "key": described(key),
        "versions": {name: _version(name) for name in _DECIDING},
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect results."""
    return {name: _version(name) for name in _PACKAGES}


def described(leaf: Any) -> str:
    """Describe an array: the text differs if the dtype, the shape or any bit does.

    >>> described(np.array([0.1, 0.2], np.float32))
    'float32[2] 0.1, 0.2'
    >>> described(np.arange(10.0))
    'float64[10] 0.0 … 9.0, SHA-256 c29605eb4e50fbb6'
    """
    array = _host(leaf)
    head = f"{_typed(leaf)} "
    if array.size <= _SHORT:
        return head + ", ".join(str(value) for value in array.ravel())
    ends = f"{array[(0,) * array.ndim]} … {array[(-1,) * array.ndim]}"
    return f"{head}{ends}, SHA-256 {_sha256(array)}"


def _sha256(array: np.ndarray) -> str:
    """Digest the bytes in C order, in chunks, whatever the array's layout."""
    digest = hashlib.sha256()
    row = max(1, array[0].nbytes)
    for start in range(0, len(array), max(1, _CHUNK // row)):
        rows = array[start : start + max(1, _CHUNK // row)]
        digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
    return digest.hexdigest()[:16]


def _lowered(programs: Programs, hparams: Any) -> tuple[Any, dict[str, str]]:
    """Lower the programs of one member; return its state's types, and their digests."""
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[:1], hparams)
    data = types_of(programs.host_data)
    seeds, step = np.zeros(1, np.uint32), np.int32(0)
    states = first_state(programs, one, seeds)
    needed = {
        "init": (BEGIN, (one, seeds, programs.key_data, data)),
        "advance": (TRAIN, (one, states, np.ones(1, bool), data, step, step)),
        "evaluate": (JUDGE, (one, states, data, step)),
    }
    if programs.trial.evaluate is None:
        del needed["evaluate"]
    return states[0], {
        name: _text_digest(programs.function(program, 1), arguments)
        for name, (program, arguments) in needed.items()
    }


def _text_digest(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Digest a lowered program, whose text has no file names and no addresses."""
    text = jax.jit(function).lower(*arguments).as_text()
    return f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _fact(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return _leaves(value, described)


def _leaves(tree: Any, describe: Callable[[Any], str]) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): describe(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _typed(leaf: Any) -> str:
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _host(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return "unknown"
