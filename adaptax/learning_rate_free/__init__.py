"""How far, inferred: rates and wrappers that need no learning rate."""

from adaptax.learning_rate_free.adgd import AdgdState as AdgdState
from adaptax.learning_rate_free.adgd import adgd as adgd
from adaptax.learning_rate_free.adgd import adgd2 as adgd2
from adaptax.learning_rate_free.cdat import CdatState as CdatState
from adaptax.learning_rate_free.cdat import cdat as cdat
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
from adaptax.learning_rate_free.paths import ScaledPathState as ScaledPathState
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
from adaptax.learning_rate_free.trac import TracTuner as TracTuner
from adaptax.learning_rate_free.trac import trac as trac
