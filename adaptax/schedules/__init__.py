"""Schedules: rates that are a function of the step."""

from adaptax._core.schedule import as_schedule as as_schedule
from adaptax.schedules.algebra import clamp as clamp
from adaptax.schedules.algebra import join as join
from adaptax.schedules.algebra import multiply as multiply
from adaptax.schedules.algebra import offset as offset
from adaptax.schedules.algebra import stretch as stretch
from adaptax.schedules.compound_decay import compound_decay as compound_decay
from adaptax.schedules.constant import constant as constant
from adaptax.schedules.cosine import cosine as cosine
from adaptax.schedules.cosine_restarts import cosine_restarts as cosine_restarts
from adaptax.schedules.cyclic import cyclic as cyclic
from adaptax.schedules.exponential_decay import exponential_decay as exponential_decay
from adaptax.schedules.inverse_sqrt import inverse_sqrt as inverse_sqrt
from adaptax.schedules.inverse_time import inverse_time as inverse_time
from adaptax.schedules.linear import linear as linear
from adaptax.schedules.one_cycle import one_cycle as one_cycle
from adaptax.schedules.piecewise import piecewise as piecewise
from adaptax.schedules.polynomial import polynomial as polynomial
from adaptax.schedules.power_decay import power_decay as power_decay
from adaptax.schedules.refine import refine as refine
from adaptax.schedules.rex import rex as rex
from adaptax.schedules.step_decay import step_decay as step_decay
from adaptax.schedules.warmup import warmup as warmup
from adaptax.schedules.warmup_stable_decay import (
    warmup_stable_decay as warmup_stable_decay,
)
