"""The conditions under which every test runs: 8 virtual CPU devices, no promotion."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

# Environment variables, so that the processes that tests start inherit them. The
# workers of pytest-xdist already use all cores: no threads for BLAS beside them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"

import jax
import optax
import pytest
from hypothesis import HealthCheck, settings

# The tests compile thousands of small programs and run each of them a few times: XLA
# need not optimize them. It ends the process at a flag that it does not know, and 0.12
# has no fusion emitters any more. The examples hide this from theirs.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11):
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}"

# Tests of many methods read the contract of each in its own test file.
_FAMILIES = ("optimizers", "schedules", "controllers", "estimates", "wrappers")
sys.path += [str(Path(__file__).parent / family) for family in _FAMILIES]

# Scripts that need libraries which the tests do not.
collect_ignore_glob = ["reference/make_*", "tuning/ray_driver.py"]

if sys.version_info < (3, 12):  # where JAX counts the levels of a tree by this limit
    sys.setrecursionlimit(5000)

jax.config.update("jax_num_cpu_devices", 8)

# The workers, and the processes that tests start, compile the same programs again and
# again: whichever compiles one first leaves it to the others of this run.
_OWNS_PROGRAMS = "PYTEST_XDIST_WORKER" not in os.environ
if _OWNS_PROGRAMS:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="adaptax-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


# How long an example takes to be drawn or tried is no failure, on a busy machine.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_unconfigure():
    """Remove the compiled programs of this run."""
    if _OWNS_PROGRAMS:
        folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
        shutil.rmtree(folder, ignore_errors=True)


def pytest_report_header():
    """Say which JAX is tested: each Python has another newest one."""
    return f"jax {jax.__version__}, optax {optax.__version__}"


@pytest.fixture(autouse=True)
def strict_promotion():
    """Refuse implicit promotion in the tests; doctests run as a user's code does.

    Optax and Flax promote: `with jax.numpy_dtype_promotion("standard")` around them.
    """
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
