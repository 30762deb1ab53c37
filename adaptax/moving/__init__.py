"""Moving in: continue training from the state of an Optax optimizer.

    m̂ = μ / (1 − β₁ᵗ),   v̂ = ν / (1 − β₂ᵗ),   v = (1 − d) Σ bⁱ gₜ₋ᵢ

Optax stores the averages μ and ν and corrects their bias at every step; here the state
contains m̂ and v̂. Optax's momentum is a sum; here it is an average with dampening d.
"""

from adaptax.moving.from_optax import from_optax as from_optax
