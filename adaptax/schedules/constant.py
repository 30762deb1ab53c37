"""Constant: the same rate at every step.

    η_t = η₀

Source: Widrow & Hoff (1960), "Adaptive Switching Circuits", IRE WESCON 4. It is defined
in `adaptax._core.schedule`, which converts a number given as a learning rate to it.
"""

from adaptax._core.methods import Method
from adaptax._core.schedule import constant as constant

METHOD = Method(
    {"value": 0.1},
    source="Widrow & Hoff (1960)",
    over=lambda rate, total_steps: constant(rate),
)
