"""Learning-rate free: whole optimizers that infer how far a step should go.

Their `learning_rate` α is a factor without a unit: leave it at 1, or give a schedule
whose peak is 1. What is applied is α times the rate that they infer, and
`adaptax.learning_rate(state)` reads the product. For `adamg` and the `momo` methods α
is the largest rate, and `cocob` has no rate of any kind. Groups of parameters with a
distance each are made with `optax.partition`.
"""

from adaptax.learning_rate_free.adamg import adamg as adamg
from adaptax.learning_rate_free.cocob import cocob as cocob
from adaptax.learning_rate_free.dadapt_adam import dadapt_adam as dadapt_adam
from adaptax.learning_rate_free.dadapt_lion import dadapt_lion as dadapt_lion
from adaptax.learning_rate_free.dadapt_sgd import dadapt_sgd as dadapt_sgd
from adaptax.learning_rate_free.momo import momo as momo
from adaptax.learning_rate_free.momo_adam import momo_adam as momo_adam
from adaptax.learning_rate_free.prodigy import prodigy as prodigy
