"""The tasks of the tuning benchmark: tiny networks in plain JAX, all data local."""

from adaptax.bench.shared.tasks.autoencoder import AUTOENCODER
from adaptax.bench.shared.tasks.classifiers import CONVOLUTION, GRU, LOGISTIC, MLP
from adaptax.bench.shared.tasks.factorization import FACTORIZATION
from adaptax.bench.shared.tasks.quadratic import QUADRATIC
from adaptax.bench.shared.tasks.task import Problem, Task
from adaptax.bench.shared.tasks.transformer import TRANSFORMER

TASKS = {
    task.name: task
    for task in (
        LOGISTIC,
        MLP,
        CONVOLUTION,
        GRU,
        TRANSFORMER,
        AUTOENCODER,
        FACTORIZATION,
        QUADRATIC,
    )
}

__all__ = ["TASKS", "Problem", "Task"]
