"""Large tasks of the tuning benchmark: 100,000 to 250,000 parameters, local data."""

from adaptax.bench.tuning.large_tasks.bytes_gru import BYTES_GRU
from adaptax.bench.tuning.large_tasks.bytes_transformer import (
    BYTES_BIG,
    BYTES_TRANSFORMER,
)
from adaptax.bench.tuning.large_tasks.deep_mlp import DEEP_MLP
from adaptax.bench.tuning.large_tasks.denoising import DENOISING
from adaptax.bench.tuning.large_tasks.policy_gradient import POLICY_GRADIENT
from adaptax.bench.tuning.large_tasks.resnet import RESNET
from adaptax.bench.tuning.large_tasks.vae import VAE
from adaptax.bench.tuning.large_tasks.vit import VIT

LARGE_TASKS = {
    task.name: task
    for task in (
        RESNET,
        BYTES_TRANSFORMER,
        VAE,
        POLICY_GRADIENT,
        VIT,
        BYTES_GRU,
        DENOISING,
        DEEP_MLP,
    )
}

__all__ = ["BYTES_BIG", "LARGE_TASKS"]
