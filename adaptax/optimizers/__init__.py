"""Which way: directions, and the optimizers made of a direction and a rate."""

from adaptax.optimizers.adagrad import AdagradState as AdagradState
from adaptax.optimizers.adagrad import adagrad as adagrad
from adaptax.optimizers.adagrad import scale_by_adagrad as scale_by_adagrad
from adaptax.optimizers.adam import AdamState as AdamState
from adaptax.optimizers.adam import adam as adam
from adaptax.optimizers.adam import scale_by_adam as scale_by_adam
from adaptax.optimizers.adamw import adamw as adamw
from adaptax.optimizers.adamw import scale_by_adamw as scale_by_adamw
from adaptax.optimizers.gradient_descent import gradient_descent as gradient_descent
from adaptax.optimizers.gradient_descent import (
    scale_by_gradient_descent as scale_by_gradient_descent,
)
from adaptax.optimizers.lion import LionState as LionState
from adaptax.optimizers.lion import lion as lion
from adaptax.optimizers.lion import scale_by_lion as scale_by_lion
from adaptax.optimizers.momentum import MomentumState as MomentumState
from adaptax.optimizers.momentum import momentum as momentum
from adaptax.optimizers.momentum import scale_by_momentum as scale_by_momentum
from adaptax.optimizers.rmsprop import RmspropState as RmspropState
from adaptax.optimizers.rmsprop import rmsprop as rmsprop
from adaptax.optimizers.rmsprop import scale_by_rmsprop as scale_by_rmsprop
from adaptax.optimizers.weight_decay import with_weight_decay as with_weight_decay
