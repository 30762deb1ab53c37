"""Constant: one rate for all steps, and what a number in a seat becomes.

    η_t = η₀

Source: Widrow & Hoff (1960), "Adaptive Switching Circuits", IRE WESCON 4. Seats make it
of numbers, so that it is defined in `adaptax._core.rates`.
"""

from adaptax._core.rates import constant as constant
