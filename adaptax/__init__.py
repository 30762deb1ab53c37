"""Learning rates that adapt, for JAX and Optax."""

from importlib import metadata as _metadata

from adaptax import catalog as catalog
from adaptax import controllers as controllers
from adaptax import optimizers as optimizers
from adaptax import schedules as schedules
from adaptax.accumulation import accumulate as accumulate
from adaptax.controllers import StopReason as StopReason
from adaptax.controllers import bold_driver as bold_driver
from adaptax.controllers import converged as converged
from adaptax.controllers import early_stop as early_stop
from adaptax.controllers import gradient_variance as gradient_variance
from adaptax.controllers import greedy as greedy
from adaptax.controllers import hypergradient as hypergradient
from adaptax.controllers import line_search as line_search
from adaptax.controllers import loss_ratio as loss_ratio
from adaptax.controllers import phases as phases
from adaptax.controllers import polyak as polyak
from adaptax.controllers import reduce_on_plateau as reduce_on_plateau
from adaptax.controllers import reject_increase as reject_increase
from adaptax.controllers import restore_best as restore_best
from adaptax.controllers import spike_guard as spike_guard
from adaptax.controllers import stationarity as stationarity
from adaptax.observe import learning_rate as learning_rate
from adaptax.observe import monitor as monitor
from adaptax.observe import set_learning_rate as set_learning_rate
from adaptax.observe import telemetry as telemetry
from adaptax.optimizers import adagrad as adagrad
from adaptax.optimizers import adam as adam
from adaptax.optimizers import adamw as adamw
from adaptax.optimizers import gradient_descent as gradient_descent
from adaptax.optimizers import lion as lion
from adaptax.optimizers import momentum as momentum
from adaptax.optimizers import rmsprop as rmsprop
from adaptax.optimizers import scale_by_adagrad as scale_by_adagrad
from adaptax.optimizers import scale_by_adam as scale_by_adam
from adaptax.optimizers import scale_by_adamw as scale_by_adamw
from adaptax.optimizers import scale_by_gradient_descent as scale_by_gradient_descent
from adaptax.optimizers import scale_by_lion as scale_by_lion
from adaptax.optimizers import scale_by_momentum as scale_by_momentum
from adaptax.optimizers import scale_by_rmsprop as scale_by_rmsprop
from adaptax.optimizers import with_weight_decay as with_weight_decay
from adaptax.rates import Controller as Controller
from adaptax.rates import Schedule as Schedule
from adaptax.rates import as_schedule as as_schedule
from adaptax.rates import descend as descend
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

try:
    __version__ = _metadata.version("adaptax")
except Exception:
    __version__ = "x"
