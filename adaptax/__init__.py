"""Learning rates that adapt, for JAX and Optax."""

from importlib import import_module as _import_module
from importlib import metadata as _metadata
from typing import TYPE_CHECKING as _TYPE_CHECKING

from adaptax import catalog as catalog
from adaptax import controllers as controllers
from adaptax import estimates as estimates
from adaptax import optimizers as optimizers
from adaptax import plots as plots
from adaptax import schedules as schedules
from adaptax import spaces as spaces
from adaptax import tuning as tuning
from adaptax import wrappers as wrappers
from adaptax._core.eval_params import eval_params as eval_params
from adaptax._core.following import Controller as Controller
from adaptax._core.rates import descend as descend
from adaptax._core.schedule import Schedule as Schedule
from adaptax._core.schedule import as_schedule as as_schedule
from adaptax._core.weight_decay import with_weight_decay as with_weight_decay
from adaptax.controllers import StopReason as StopReason
from adaptax.controllers import bold_driver as bold_driver
from adaptax.controllers import converged as converged
from adaptax.controllers import early_stop as early_stop
from adaptax.controllers import gradient_variance as gradient_variance
from adaptax.controllers import greedy as greedy
from adaptax.controllers import hypergradient as hypergradient
from adaptax.controllers import loss_ratio as loss_ratio
from adaptax.controllers import phases as phases
from adaptax.controllers import reduce_on_plateau as reduce_on_plateau
from adaptax.controllers import stationarity as stationarity
from adaptax.estimates import adgd as adgd
from adaptax.estimates import adgd2 as adgd2
from adaptax.estimates import cdat as cdat
from adaptax.estimates import dog as dog
from adaptax.estimates import dowg as dowg
from adaptax.estimates import l_dog as l_dog
from adaptax.estimates import line_search as line_search
from adaptax.estimates import polyak as polyak
from adaptax.moving import from_optax as from_optax
from adaptax.optimizers import adabelief as adabelief
from adaptax.optimizers import adagrad as adagrad
from adaptax.optimizers import adam as adam
from adaptax.optimizers import adamax as adamax
from adaptax.optimizers import adamg as adamg
from adaptax.optimizers import adamw as adamw
from adaptax.optimizers import adan as adan
from adaptax.optimizers import ademamix as ademamix
from adaptax.optimizers import adopt as adopt
from adaptax.optimizers import cocob as cocob
from adaptax.optimizers import dadapt_adam as dadapt_adam
from adaptax.optimizers import dadapt_lion as dadapt_lion
from adaptax.optimizers import dadapt_sgd as dadapt_sgd
from adaptax.optimizers import gradient_descent as gradient_descent
from adaptax.optimizers import lamb as lamb
from adaptax.optimizers import lion as lion
from adaptax.optimizers import momentum as momentum
from adaptax.optimizers import momo as momo
from adaptax.optimizers import momo_adam as momo_adam
from adaptax.optimizers import muon as muon
from adaptax.optimizers import nadam as nadam
from adaptax.optimizers import prodigy as prodigy
from adaptax.optimizers import radam as radam
from adaptax.optimizers import rmsprop as rmsprop
from adaptax.optimizers import scale_by_adabelief as scale_by_adabelief
from adaptax.optimizers import scale_by_adagrad as scale_by_adagrad
from adaptax.optimizers import scale_by_adam as scale_by_adam
from adaptax.optimizers import scale_by_adamax as scale_by_adamax
from adaptax.optimizers import scale_by_adamw as scale_by_adamw
from adaptax.optimizers import scale_by_adan as scale_by_adan
from adaptax.optimizers import scale_by_ademamix as scale_by_ademamix
from adaptax.optimizers import scale_by_adopt as scale_by_adopt
from adaptax.optimizers import scale_by_gradient_descent as scale_by_gradient_descent
from adaptax.optimizers import scale_by_lamb as scale_by_lamb
from adaptax.optimizers import scale_by_lion as scale_by_lion
from adaptax.optimizers import scale_by_momentum as scale_by_momentum
from adaptax.optimizers import scale_by_muon as scale_by_muon
from adaptax.optimizers import scale_by_nadam as scale_by_nadam
from adaptax.optimizers import scale_by_radam as scale_by_radam
from adaptax.optimizers import scale_by_rmsprop as scale_by_rmsprop
from adaptax.optimizers import schedule_free_adamw as schedule_free_adamw
from adaptax.optimizers import schedule_free_polyak as schedule_free_polyak
from adaptax.optimizers import schedule_free_radam as schedule_free_radam
from adaptax.optimizers import schedule_free_sgd as schedule_free_sgd
from adaptax.optimizers import self_tuning as self_tuning
from adaptax.orders import cool_down as cool_down
from adaptax.orders import hold as hold
from adaptax.orders import release as release
from adaptax.orders import stretch_run as stretch_run
from adaptax.reading import learning_rate as learning_rate
from adaptax.reading import set_learning_rate as set_learning_rate
from adaptax.reading import telemetry as telemetry
from adaptax.schedules import compound_decay as compound_decay
from adaptax.schedules import constant as constant
from adaptax.schedules import cosine as cosine
from adaptax.schedules import cosine_restarts as cosine_restarts
from adaptax.schedules import cyclic as cyclic
from adaptax.schedules import exponential_decay as exponential_decay
from adaptax.schedules import inverse_sqrt as inverse_sqrt
from adaptax.schedules import inverse_time as inverse_time
from adaptax.schedules import linear as linear
from adaptax.schedules import one_cycle as one_cycle
from adaptax.schedules import piecewise as piecewise
from adaptax.schedules import polynomial as polynomial
from adaptax.schedules import power_decay as power_decay
from adaptax.schedules import rex as rex
from adaptax.schedules import step_decay as step_decay
from adaptax.schedules import warmup as warmup
from adaptax.schedules import warmup_stable_decay as warmup_stable_decay
from adaptax.tuning import BranchResult as BranchResult
from adaptax.tuning import CosineBaseline as CosineBaseline
from adaptax.tuning import FinderResult as FinderResult
from adaptax.tuning import HalvingResult as HalvingResult
from adaptax.tuning import Plan as Plan
from adaptax.tuning import PopulationDiverged as PopulationDiverged
from adaptax.tuning import PopulationResult as PopulationResult
from adaptax.tuning import RangeTest as RangeTest
from adaptax.tuning import SearchResult as SearchResult
from adaptax.tuning import Shared as Shared
from adaptax.tuning import StoppingResult as StoppingResult
from adaptax.tuning import SweepResult as SweepResult
from adaptax.tuning import Trial as Trial
from adaptax.tuning import TrialState as TrialState
from adaptax.tuning import branch as branch
from adaptax.tuning import find_learning_rate as find_learning_rate
from adaptax.tuning import median_stopping as median_stopping
from adaptax.tuning import nnx_trial as nnx_trial
from adaptax.tuning import population_based_training as population_based_training
from adaptax.tuning import range_test as range_test
from adaptax.tuning import search_schedule as search_schedule
from adaptax.tuning import stream as stream
from adaptax.tuning import successive_halving as successive_halving
from adaptax.tuning import sweep as sweep
from adaptax.tuning import trial as trial
from adaptax.wrappers import PackedParams as PackedParams
from adaptax.wrappers import accumulate as accumulate
from adaptax.wrappers import iterate_average as iterate_average
from adaptax.wrappers import mechanic as mechanic
from adaptax.wrappers import monitor as monitor
from adaptax.wrappers import pack as pack
from adaptax.wrappers import packed as packed
from adaptax.wrappers import prodigy_distance as prodigy_distance
from adaptax.wrappers import quantized as quantized
from adaptax.wrappers import reject_increase as reject_increase
from adaptax.wrappers import restore_best as restore_best
from adaptax.wrappers import schedule_free as schedule_free
from adaptax.wrappers import spike_guard as spike_guard
from adaptax.wrappers import steerable as steerable
from adaptax.wrappers import trac as trac
from adaptax.wrappers import unpack as unpack
from adaptax.wrappers import unpack_state as unpack_state
from adaptax.wrappers import unquantize_state as unquantize_state
from adaptax.wrappers.block_codes import Quantized as Quantized

try:
    __version__ = _metadata.version("adaptax")
except _metadata.PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

if not _TYPE_CHECKING:

    def __getattr__(name):
        """Import `adaptax.flax` when it is used: it needs Flax."""
        if name == "flax":
            return _import_module("adaptax.flax")
        raise AttributeError(f"module 'adaptax' has no attribute {name!r}")
