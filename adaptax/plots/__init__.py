"""Plots of results, schedules and training histories.

Each function returns a `matplotlib.figure.Figure`, for a notebook or `savefig`, without
changing global state. They need `pip install "adaptax[plots]"`.
"""

from adaptax.plots.curves import history as history
from adaptax.plots.curves import schedule as schedule
from adaptax.plots.results import branches as branches
from adaptax.plots.results import finder as finder
from adaptax.plots.results import halving as halving
from adaptax.plots.results import population as population
from adaptax.plots.results import sweep as sweep
from adaptax.plots.searches import rule as rule
from adaptax.plots.searches import search as search
