"""Directions, and optimizers: a direction with a rate.

Each optimizer `x` that has a `scale_by_x` is that direction followed by
`descend(learning_rate)`.
"""

from adaptax.optimizers.adabelief import AdabeliefState as AdabeliefState
from adaptax.optimizers.adabelief import adabelief as adabelief
from adaptax.optimizers.adabelief import scale_by_adabelief as scale_by_adabelief
from adaptax.optimizers.adagrad import AdagradState as AdagradState
from adaptax.optimizers.adagrad import adagrad as adagrad
from adaptax.optimizers.adagrad import scale_by_adagrad as scale_by_adagrad
from adaptax.optimizers.adam import AdamState as AdamState
from adaptax.optimizers.adam import adam as adam
from adaptax.optimizers.adam import scale_by_adam as scale_by_adam
from adaptax.optimizers.adamax import AdamaxState as AdamaxState
from adaptax.optimizers.adamax import adamax as adamax
from adaptax.optimizers.adamax import scale_by_adamax as scale_by_adamax
from adaptax.optimizers.adamg import adamg as adamg
from adaptax.optimizers.adamw import adamw as adamw
from adaptax.optimizers.adamw import scale_by_adamw as scale_by_adamw
from adaptax.optimizers.adan import AdanState as AdanState
from adaptax.optimizers.adan import adan as adan
from adaptax.optimizers.adan import scale_by_adan as scale_by_adan
from adaptax.optimizers.ademamix import AdemamixState as AdemamixState
from adaptax.optimizers.ademamix import ademamix as ademamix
from adaptax.optimizers.ademamix import scale_by_ademamix as scale_by_ademamix
from adaptax.optimizers.adopt import AdoptState as AdoptState
from adaptax.optimizers.adopt import adopt as adopt
from adaptax.optimizers.adopt import scale_by_adopt as scale_by_adopt
from adaptax.optimizers.cocob import cocob as cocob
from adaptax.optimizers.dadapt_adam import dadapt_adam as dadapt_adam
from adaptax.optimizers.dadapt_lion import dadapt_lion as dadapt_lion
from adaptax.optimizers.dadapt_sgd import dadapt_sgd as dadapt_sgd
from adaptax.optimizers.gradient_descent import gradient_descent as gradient_descent
from adaptax.optimizers.gradient_descent import (
    scale_by_gradient_descent as scale_by_gradient_descent,
)
from adaptax.optimizers.lamb import lamb as lamb
from adaptax.optimizers.lamb import scale_by_lamb as scale_by_lamb
from adaptax.optimizers.lion import LionState as LionState
from adaptax.optimizers.lion import lion as lion
from adaptax.optimizers.lion import scale_by_lion as scale_by_lion
from adaptax.optimizers.momentum import MomentumState as MomentumState
from adaptax.optimizers.momentum import momentum as momentum
from adaptax.optimizers.momentum import scale_by_momentum as scale_by_momentum
from adaptax.optimizers.momo import momo as momo
from adaptax.optimizers.momo_adam import momo_adam as momo_adam
from adaptax.optimizers.muon import MuonState as MuonState
from adaptax.optimizers.muon import muon as muon
from adaptax.optimizers.muon import scale_by_muon as scale_by_muon
from adaptax.optimizers.nadam import nadam as nadam
from adaptax.optimizers.nadam import scale_by_nadam as scale_by_nadam
from adaptax.optimizers.prodigy import prodigy as prodigy
from adaptax.optimizers.radam import RadamState as RadamState
from adaptax.optimizers.radam import radam as radam
from adaptax.optimizers.radam import scale_by_radam as scale_by_radam
from adaptax.optimizers.rmsprop import RmspropState as RmspropState
from adaptax.optimizers.rmsprop import rmsprop as rmsprop
from adaptax.optimizers.rmsprop import scale_by_rmsprop as scale_by_rmsprop
from adaptax.optimizers.schedule_free_adamw import (
    schedule_free_adamw as schedule_free_adamw,
)
from adaptax.optimizers.schedule_free_polyak import (
    schedule_free_polyak as schedule_free_polyak,
)
from adaptax.optimizers.schedule_free_radam import (
    schedule_free_radam as schedule_free_radam,
)
from adaptax.optimizers.schedule_free_sgd import schedule_free_sgd as schedule_free_sgd
from adaptax.optimizers.self_tuning import self_tuning as self_tuning
