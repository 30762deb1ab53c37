"""The tasks of the tuning benchmark: tiny networks in plain JAX, all data local."""

from adaptax.bench.tasks.autoencoder import AUTOENCODER
from adaptax.bench.tasks.classifiers import CONVOLUTION, GRU, LOGISTIC, MLP
from adaptax.bench.tasks.factorization import FACTORIZATION
from adaptax.bench.tasks.quadratic import QUADRATIC
from adaptax.bench.tasks.task import Problem, Task
from adaptax.bench.tasks.transformer import TRANSFORMER

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
