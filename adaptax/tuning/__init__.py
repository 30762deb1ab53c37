"""Tools that find, sweep, evolve and search learning rates in one compiled program."""

from adaptax.tuning import studies as studies
from adaptax.tuning.analysis.cosine_baselines import CosineBaseline as CosineBaseline
from adaptax.tuning.branch_result import BranchResult as BranchResult
from adaptax.tuning.branching import branch as branch
from adaptax.tuning.finder import FinderResult as FinderResult
from adaptax.tuning.finder import find_learning_rate as find_learning_rate
from adaptax.tuning.halving import successive_halving as successive_halving
from adaptax.tuning.halving_result import HalvingResult as HalvingResult
from adaptax.tuning.jobs import Job as Job
from adaptax.tuning.population import (
    population_based_training as population_based_training,
)
from adaptax.tuning.population_result import PopulationDiverged as PopulationDiverged
from adaptax.tuning.population_result import PopulationResult as PopulationResult
from adaptax.tuning.range_test import RangeTest as RangeTest
from adaptax.tuning.range_test import range_test as range_test
from adaptax.tuning.rounds import Outcome as Outcome
from adaptax.tuning.rounds import Round as Round
from adaptax.tuning.rules import RuleResult as RuleResult
from adaptax.tuning.rules import play_rule as play_rule
from adaptax.tuning.running.plans import Plan as Plan
from adaptax.tuning.search import search_schedule as search_schedule
from adaptax.tuning.search_result import SearchResult as SearchResult
from adaptax.tuning.stopping import StoppingResult as StoppingResult
from adaptax.tuning.stopping import median_stopping as median_stopping
from adaptax.tuning.study import Study as Study
from adaptax.tuning.sweep import sweep as sweep
from adaptax.tuning.sweep_result import SweepResult as SweepResult
from adaptax.tuning.trainer import Trainer as Trainer
from adaptax.tuning.trials.flax_trials import nnx_trial as nnx_trial
from adaptax.tuning.trials.streams import stream as stream
from adaptax.tuning.trials.training import Shared as Shared
from adaptax.tuning.trials.training import TrialState as TrialState
from adaptax.tuning.trials.trials import Trial as Trial
from adaptax.tuning.trials.trials import trial as trial
