"""Controllers: rates that follow what training reports.

`follow` and `follow_gradients` make a controller of your own rule.
"""

from adaptax._core.following import follow as follow
from adaptax._core.following import follow_gradients as follow_gradients
from adaptax.controllers.bold_driver import BoldDriverState as BoldDriverState
from adaptax.controllers.bold_driver import bold_driver as bold_driver
from adaptax.controllers.early_stop import EarlyStopState as EarlyStopState
from adaptax.controllers.early_stop import StopReason as StopReason
from adaptax.controllers.early_stop import converged as converged
from adaptax.controllers.early_stop import early_stop as early_stop
from adaptax.controllers.gradient_variance import (
    GradientNoiseState as GradientNoiseState,
)
from adaptax.controllers.gradient_variance import GradientNormState as GradientNormState
from adaptax.controllers.gradient_variance import gradient_variance as gradient_variance
from adaptax.controllers.greedy import GreedyState as GreedyState
from adaptax.controllers.greedy import greedy as greedy
from adaptax.controllers.hypergradient import HypergradientState as HypergradientState
from adaptax.controllers.hypergradient import hypergradient as hypergradient
from adaptax.controllers.loss_ratio import LossRatioState as LossRatioState
from adaptax.controllers.loss_ratio import loss_ratio as loss_ratio
from adaptax.controllers.phases import PhasesState as PhasesState
from adaptax.controllers.phases import phases as phases
from adaptax.controllers.reduce_on_plateau import PlateauState as PlateauState
from adaptax.controllers.reduce_on_plateau import reduce_on_plateau as reduce_on_plateau
from adaptax.controllers.stationarity import PflugState as PflugState
from adaptax.controllers.stationarity import StationarityState as StationarityState
from adaptax.controllers.stationarity import stationarity as stationarity
