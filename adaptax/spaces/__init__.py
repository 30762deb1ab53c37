"""Spaces of hyperparameters.

A space is a dict, which may be nested, with an entry for each hyperparameter:

    grid, log_grid                 points, all tried; several grids form a product
    uniform, log_uniform, choice   random axes, drawn for each member
    a list or 1-D array            values paired with those of the other lists
    a number                       the same for all members

`members` returns the hyperparameters of all members. They are computed on the host from
the bits of a JAX key, so they are the same on every platform.

Source of the random axes: Bergstra & Bengio (2012), "Random Search for Hyper-Parameter
Optimization", JMLR 13; of their perturbation: Jaderberg et al. (2017), "Population
Based Training of Neural Networks" (arXiv 1711.09846), section 4.
"""

from adaptax.spaces.axes import Axis as Axis
from adaptax.spaces.axes import Choice as Choice
from adaptax.spaces.axes import Grid as Grid
from adaptax.spaces.axes import Interval as Interval
from adaptax.spaces.axes import Numbers as Numbers
from adaptax.spaces.axes import choice as choice
from adaptax.spaces.axes import grid as grid
from adaptax.spaces.axes import is_axis as is_axis
from adaptax.spaces.axes import log_grid as log_grid
from adaptax.spaces.axes import log_uniform as log_uniform
from adaptax.spaces.axes import uniform as uniform
from adaptax.spaces.members import constants as constants
from adaptax.spaces.members import count_members as count_members
from adaptax.spaces.members import entries as entries
from adaptax.spaces.members import is_random as is_random
from adaptax.spaces.members import members as members
