"""Tools: find, sweep, halve, evolve and search learning rates inside one program."""

from adaptax.tuning.execution import Plan as Plan
from adaptax.tuning.flax_trials import nnx_trial as nnx_trial
from adaptax.tuning.trials import Shared as Shared
from adaptax.tuning.trials import Trial as Trial
from adaptax.tuning.trials import TrialState as TrialState
from adaptax.tuning.trials import trial as trial
