"""Learning-rate free: whole optimizers that infer how far a step should go.

Their `learning_rate` α is a factor without a unit: leave it at 1, or give a schedule
whose peak is 1. What is applied is α times the rate that they infer, and
`adaptax.learning_rate(state)` reads the product. For `adamg` and the `momo` methods α
is the largest rate, and `cocob` has no rate of any kind. Groups of parameters with a
distance each are made with `optax.partition`.

Estimates, such as `dog`, are rates that go behind any direction; the wrappers
`mechanic` and `trac` scale the way of any optimizer, and `schedule_free` and
`iterate_average` keep an average of the points, which `eval_params` finds.
"""

from adaptax.learning_rate_free.adamg import adamg as adamg
from adaptax.learning_rate_free.adgd import Adgd2State as Adgd2State
from adaptax.learning_rate_free.adgd import AdgdState as AdgdState
from adaptax.learning_rate_free.adgd import adgd as adgd
from adaptax.learning_rate_free.adgd import adgd2 as adgd2
from adaptax.learning_rate_free.cdat import CdatState as CdatState
from adaptax.learning_rate_free.cdat import cdat as cdat
from adaptax.learning_rate_free.cocob import cocob as cocob
from adaptax.learning_rate_free.dadapt_adam import dadapt_adam as dadapt_adam
from adaptax.learning_rate_free.dadapt_lion import dadapt_lion as dadapt_lion
from adaptax.learning_rate_free.dadapt_sgd import dadapt_sgd as dadapt_sgd
from adaptax.learning_rate_free.dog import DogState as DogState
from adaptax.learning_rate_free.dog import LDogState as LDogState
from adaptax.learning_rate_free.dog import dog as dog
from adaptax.learning_rate_free.dog import l_dog as l_dog
from adaptax.learning_rate_free.dowg import DowgState as DowgState
from adaptax.learning_rate_free.dowg import dowg as dowg
from adaptax.learning_rate_free.evaluation import eval_params as eval_params
from adaptax.learning_rate_free.iterate_average import (
    IterateAverageState as IterateAverageState,
)
from adaptax.learning_rate_free.iterate_average import (
    iterate_average as iterate_average,
)
from adaptax.learning_rate_free.mechanic import MechanicTuner as MechanicTuner
from adaptax.learning_rate_free.mechanic import mechanic as mechanic
from adaptax.learning_rate_free.momo import momo as momo
from adaptax.learning_rate_free.momo_adam import momo_adam as momo_adam
from adaptax.learning_rate_free.paths import ScaledPathState as ScaledPathState
from adaptax.learning_rate_free.prodigy import prodigy as prodigy
from adaptax.learning_rate_free.schedule_free import (
    ScheduleFreeState as ScheduleFreeState,
)
from adaptax.learning_rate_free.schedule_free import schedule_free as schedule_free
from adaptax.learning_rate_free.schedule_free import (
    schedule_free_adamw as schedule_free_adamw,
)
from adaptax.learning_rate_free.schedule_free import (
    schedule_free_radam as schedule_free_radam,
)
from adaptax.learning_rate_free.schedule_free import (
    schedule_free_sgd as schedule_free_sgd,
)
from adaptax.learning_rate_free.schedule_free_polyak import (
    schedule_free_polyak as schedule_free_polyak,
)
from adaptax.learning_rate_free.trac import TracTuner as TracTuner
from adaptax.learning_rate_free.trac import trac as trac
