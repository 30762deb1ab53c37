"""The catalogue: one table of every named thing, which tests, docs and benchmarks read.

Adding a method is one line here. The conformance tests then hold it to the contract,
the command lines of the examples know its name, and the documentation lists it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import optax
import optax.contrib

from adaptax import controllers, estimates, optimizers, schedules, wrappers
from adaptax._core.rates import Schedule

Family = Literal["optimizer", "schedule", "controller", "estimate", "wrapper"]

Rate = Literal["factor", "inferred", "path", "none"]


@dataclass(frozen=True)
class Goal:
    """What a method must reach on a toy problem, started from its example values.

    The objective must fall to `tolerance` times its first value within `steps` steps;
    `hyperparameters` replace some of the example values.
    """

    steps: int
    tolerance: float
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One named method.

    Attributes:
        name: Its public name, that of `factory`.
        family: "optimizer", "schedule", "controller", "estimate" or "wrapper".
        factory: The public function that makes it.
        hyperparameters: An example value of every numeric argument; for a wrapper with
            the `learning_rate` of the momentum that it is put around.
        source: Authors and year, as in the module's docstring.
        direction: The `scale_by_` form, if there is one.
        variants: Structural arguments that change the algorithm, each tested as well.
        static: The numbers among the arguments that are structural, such as lengths of
            arrays.
        needs: What `update` must be given: "params", "value", "grad", "value_fn",
            "grad_fn", "micro_norms", "key".
        variant_needs: What it must be given instead, by the value of an argument of a
            variant.
        elementwise: Whether each coordinate is treated alone.
        by_leaf: Whether it looks at each leaf as such, as by norms of leaves, so that
            it cannot be packed; or the name of the argument that makes it do so.
        regroups: For a wrapper: whether it puts leaves together.
        breaks: Points of the contract that it need not keep, with the reason.
        optax_forms: The functions of Optax whose users look for it.
        optax_twin: Makes the same thing from Optax with the example values.
        differs: Why it has no twin, or how it differs from it.
        over: For a schedule: `over(rate, total_steps)` spreads it over a training run.
        steady: For a wrapper: arguments that leave the steps alone while losses fall;
            `None` where none do.
        calls: For a wrapper: how many calls it takes to a step.
        usual_rate: For an optimizer: a rate that trains most small networks. If it
            infers its rate or has none: the usual factor of its steps.
        rate: How its updates follow from `adaptax.learning_rate(state)`. "factor":
            they are that times a direction that does not depend on it. "inferred": the
            method makes the rate itself, and may weigh its sums by it; its reference
            gives the rate beside each point. "path": likewise, but a step is the
            difference of two points on a path that is averaged or scaled as a whole,
            which limits its precision. "none": there is none.
        goals: The toy problems that it solves, by name.
    """

    name: str
    family: Family
    factory: Callable[..., optax.GradientTransformation]
    hyperparameters: Mapping[str, Any]
    source: str
    direction: Callable[..., optax.GradientTransformation] | None = None
    variants: tuple[Mapping[str, Any], ...] = ()
    static: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    variant_needs: Mapping[Any, frozenset[str]] = field(default_factory=dict)
    elementwise: bool = False
    by_leaf: bool | str = False
    regroups: bool = False
    breaks: Mapping[str, str] = field(default_factory=dict)
    optax_forms: tuple[str, ...] = ()
    optax_twin: Callable[[], Any] | None = None
    differs: str = ""
    over: Callable[[Any, int], Schedule] | None = None
    steady: Mapping[str, Any] | None = field(default_factory=dict)
    calls: int = 1
    usual_rate: float | None = None
    rate: Rate = "factor"
    goals: Mapping[str, Goal] = field(default_factory=dict)

    @property
    def has_seat(self) -> bool:
        """Whether the factory takes a `learning_rate`."""
        return "learning_rate" in self.hyperparameters

    def make(self, **arguments: Any) -> optax.GradientTransformation:
        """Make the thing itself from its example values, some of them replaced.

        A wrapper is put around momentum of its `learning_rate`, unless an `inner` is
        given.
        """
        arguments = {**self.hyperparameters, **arguments}
        if self.family == "wrapper":
            inner = optimizers.momentum(arguments.pop("learning_rate"))
            arguments.setdefault("inner", inner)
        return self.factory(**arguments)

    def optimizer(self, **arguments: Any) -> optax.GradientTransformation:
        """Make a whole optimizer of it: a rate is put behind gradient descent."""
        made = self.make(**arguments)
        if self.family in ("optimizer", "wrapper"):
            return made
        if self.family == "controller":  # most of them only multiply another rate
            return optimizers.gradient_descent([1.0, made])
        return optimizers.gradient_descent(made)


def find(name: str, family: Family) -> Entry:
    """Look a method up by its name.

    Raises:
        ValueError: If there is none; the message lists those there are.
    """
    known = {entry.name: entry for entry in ENTRIES if entry.family == family}
    if name not in known:
        listed = ", ".join(sorted(known))
        raise ValueError(f"there is no {family} {name!r}. There are: {listed}.")
    return known[name]


_OPTIMIZERS = (
    Entry(
        "gradient_descent",
        "optimizer",
        optimizers.gradient_descent,
        {"learning_rate": 0.1},
        "Robbins & Monro (1951)",
        direction=optimizers.scale_by_gradient_descent,
        usual_rate=0.1,
        elementwise=True,
        optax_forms=("optax.sgd",),
        optax_twin=lambda: optax.sgd(0.1),
        goals={
            "quadratic": Goal(200, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.01}),
            "complex_rosenbrock": Goal(2000, 0.15, {"learning_rate": 0.001}),
        },
    ),
    Entry(
        "momentum",
        "optimizer",
        optimizers.momentum,
        {"learning_rate": 0.1, "b": 0.8},
        "Polyak (1964)",
        direction=optimizers.scale_by_momentum,
        usual_rate=0.1,
        variants=({"dampening": 0.0}, {"nesterov": True}),
        elementwise=True,
        optax_forms=("optax.sgd",),
        optax_twin=lambda: optax.chain(
            optax.scale(1 - 0.8), optax.sgd(0.1, momentum=0.8)
        ),
        goals={
            "quadratic": Goal(200, 1e-2),
            "ill_conditioned": Goal(200, 5e-3, {"learning_rate": 1.0}),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.01}),
            "complex_rosenbrock": Goal(1000, 0.05, {"learning_rate": 0.01}),
        },
    ),
    Entry(
        "adagrad",
        "optimizer",
        optimizers.adagrad,
        {"learning_rate": 0.5, "initial_sum": 0.1, "eps": 1e-6, "eps_root": 1e-7},
        "Duchi, Hazan & Singer (2011)",
        direction=optimizers.scale_by_adagrad,
        usual_rate=0.01,
        elementwise=True,
        optax_forms=("optax.adagrad",),
        differs="optax.adagrad has no ε outside the root.",
        goals={
            "quadratic": Goal(200, 1e-2),
            "regression": Goal(300, 0.15),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 1.0}),
            "complex_rosenbrock": Goal(2000, 0.05, {"learning_rate": 0.1}),
        },
    ),
    Entry(
        "rmsprop",
        "optimizer",
        optimizers.rmsprop,
        {"learning_rate": 0.02, "decay": 0.9, "eps": 1e-8, "eps_root": 1e-8},
        "Tieleman & Hinton (2012)",
        direction=optimizers.scale_by_rmsprop,
        usual_rate=0.001,
        variants=({"momentum": 0.9, "debias": True}, {"centered": True}),
        elementwise=True,
        optax_forms=("optax.rmsprop",),
        differs="optax.rmsprop has one ε, inside or outside the root.",
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.03}),
            "complex_rosenbrock": Goal(2000, 0.1, {"learning_rate": 0.001}),
        },
    ),
    Entry(
        "adam",
        "optimizer",
        optimizers.adam,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-7},
        "Kingma & Ba (2015)",
        direction=optimizers.scale_by_adam,
        usual_rate=0.002,
        variants=({"nesterov": True}, {"amsgrad": True}),
        elementwise=True,
        optax_forms=("optax.adam", "optax.amsgrad"),
        optax_twin=lambda: optax.adam(0.1, 0.8, 0.99, 1e-6, 1e-7),
        goals={
            "quadratic": Goal(300, 1e-2),
            "regression": Goal(300, 0.2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
            "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.003}),
        },
    ),
    Entry(
        "adamw",
        "optimizer",
        optimizers.adamw,
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.99,
            "eps": 1e-6,
            "eps_root": 1e-7,
            "weight_decay": 0.01,
        },
        "Loshchilov & Hutter (2019)",
        direction=optimizers.scale_by_adamw,
        usual_rate=0.002,
        needs=frozenset({"params"}),
        elementwise=True,
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.adamw", "optax.nadamw"),
        optax_twin=lambda: optax.adamw(0.1, 0.8, 0.99, 1e-6, 1e-7, weight_decay=0.01),
        goals={
            "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-4}),
            "rosenbrock": Goal(500, 1e-2, {"weight_decay": 1e-5}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.01, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "lion",
        "optimizer",
        optimizers.lion,
        {"learning_rate": 0.01, "b1": 0.9, "b2": 0.99, "weight_decay": 0.01},
        "Chen et al. (2023)",
        direction=optimizers.scale_by_lion,
        usual_rate=0.0002,
        needs=frozenset({"params"}),
        elementwise=True,
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.lion",),
        optax_twin=lambda: optax.lion(0.01, 0.9, 0.99, weight_decay=0.01),
        goals={
            "quadratic": Goal(300, 1e-1, {"weight_decay": 1e-4}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                2000, 0.05, {"learning_rate": 0.001, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "adabelief",
        "optimizer",
        optimizers.adabelief,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-7},
        "Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris & Duncan (2020)",
        direction=optimizers.scale_by_adabelief,
        usual_rate=0.002,
        elementwise=True,
        optax_forms=("optax.adabelief",),
        optax_twin=lambda: optax.adabelief(0.1, 0.8, 0.99, 1e-6, 1e-7),
        goals={
            "quadratic": Goal(300, 1e-2),
            "regression": Goal(300, 0.2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.01}),
            "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.001}),
        },
    ),
    Entry(
        "radam",
        "optimizer",
        optimizers.radam,
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.9,  # in float32, the ρ of Optax is ever farther off towards 1
            "eps": 1e-6,
            "eps_root": 1e-7,
            "threshold": 5.5,
        },
        "Liu, Jiang, He, Chen, Liu, Gao & Han (2020)",
        direction=optimizers.scale_by_radam,
        usual_rate=0.002,
        elementwise=True,
        optax_forms=("optax.radam",),
        optax_twin=lambda: optax.radam(0.1, 0.8, 0.9, 1e-6, 1e-7, 5.5),
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.03}),
            "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.003}),
        },
    ),
    Entry(
        "nadam",
        "optimizer",
        optimizers.nadam,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-7},
        "Dozat (2016)",
        direction=optimizers.scale_by_nadam,
        usual_rate=0.002,
        elementwise=True,
        optax_forms=("optax.nadam",),
        optax_twin=lambda: optax.nadam(0.1, 0.8, 0.99, 1e-6, 1e-7),
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
            "complex_rosenbrock": Goal(1000, 0.05, {"learning_rate": 0.003}),
        },
    ),
    Entry(
        "lamb",
        "optimizer",
        optimizers.lamb,
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.99,
            "eps": 1e-6,
            "eps_root": 1e-7,
            "weight_decay": 0.01,
        },
        "You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer & Hsieh "
        "(2020)",
        direction=optimizers.scale_by_lamb,
        usual_rate=0.01,
        needs=frozenset({"params"}),
        by_leaf=True,
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.lamb",),
        optax_twin=lambda: optax.lamb(0.1, 0.8, 0.99, 1e-6, 1e-7, weight_decay=0.01),
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.01, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                10000, 0.05, {"learning_rate": 0.001, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "adopt",
        "optimizer",
        optimizers.adopt,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6},
        "Taniguchi et al. (2024)",
        direction=optimizers.scale_by_adopt,
        usual_rate=0.002,
        elementwise=True,
        optax_forms=("optax.contrib.adopt",),
        optax_twin=lambda: optax.contrib.adopt(0.1, 0.8, 0.99, 1e-6),
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
            "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.003}),
        },
    ),
    Entry(
        "ademamix",
        "optimizer",
        optimizers.ademamix,
        {
            "learning_rate": 0.05,
            "b1": 0.8,
            "b2": 0.99,
            "b3": 0.95,
            "alpha": 2.0,
            "eps": 1e-6,
            "eps_root": 1e-7,
            "weight_decay": 0.01,
            "warmup_steps": 0,
        },
        "Pagliardini, Ablin & Grangier (2025)",
        direction=optimizers.scale_by_ademamix,
        usual_rate=0.002,
        variants=({"warmup_steps": 30},),
        needs=frozenset({"params"}),
        elementwise=True,
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.contrib.ademamix",),
        optax_twin=lambda: optax.contrib.ademamix(
            0.05, 0.8, 0.99, 0.95, 2.0, 1e-6, 1e-7, weight_decay=0.01
        ),
        goals={
            "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-4}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.01, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "adan",
        "optimizer",
        optimizers.adan,
        {
            "learning_rate": 0.1,
            "b1": 0.9,
            "b2": 0.8,
            "b3": 0.95,
            "eps": 1e-6,
            "eps_root": 1e-7,
            "weight_decay": 0.01,
        },
        "Xie, Zhou, Li, Lin & Yan (2024)",
        direction=optimizers.scale_by_adan,
        usual_rate=0.002,
        needs=frozenset({"params"}),
        elementwise=True,
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.adan",),
        differs="optax.adan weighs the change of the gradient by 1 − b2, not b2.",
        goals={
            "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-4}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "muon",
        "optimizer",
        optimizers.muon,
        {
            "learning_rate": 0.1,
            "b": 0.8,
            "b1": 0.8,
            "b2": 0.99,
            "eps": 1e-6,
            "eps_root": 1e-7,
            "weight_decay": 0.01,
        },
        "Jordan, Jin, Boza, You, Cesista, Newhouse & Bernstein (2024)",
        direction=optimizers.scale_by_muon,
        usual_rate=0.01,
        variants=({"consistent_rms": 0.2, "other_scale": 0.5},),
        needs=frozenset({"params"}),
        by_leaf=True,
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.contrib.muon",),
        differs="optax.contrib.muon looks a step ahead in Adam's leaves as well.",
        goals={
            "quadratic": Goal(300, 5e-2, {"weight_decay": 1e-4}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.01, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
)

_LEARNING_RATE_FREE = (
    Entry(
        "prodigy",
        "optimizer",
        optimizers.prodigy,
        {
            "learning_rate": 0.8,
            "b1": 0.8,
            "b2": 0.99,
            "eps": 1e-6,
            "d0": 0.01,
            "d_coef": 0.9,
            "weight_decay": 0.02,
            "bias_correction": True,
        },
        "Mishchenko & Defazio (2024)",
        rate="inferred",
        usual_rate=1.0,
        variants=(
            {"bias_correction": False, "growth": 1.2, "freeze_after": 30},
            {"safeguard_warmup": True, "b3": 0.9, "slice_p": 4},
        ),
        static=frozenset({"slice_p"}),
        needs=frozenset({"params"}),
        by_leaf="slice_p",
        optax_forms=("optax.contrib.prodigy",),
        optax_twin=lambda: optax.contrib.prodigy(
            0.8,
            (0.8, 0.99),
            eps=1e-6,
            estim_lr0=0.01,
            estim_lr_coef=0.9,
            weight_decay=0.02,
        ),
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.01, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "dadapt_adam",
        "optimizer",
        optimizers.dadapt_adam,
        {
            "learning_rate": 0.8,
            "b1": 0.8,
            "b2": 0.99,
            "eps": 1e-6,
            "d0": 0.01,
            "weight_decay": 0.02,
            "bias_correction": True,
        },
        "Defazio & Mishchenko (2023)",
        rate="inferred",
        usual_rate=1.0,
        variants=({"bias_correction": False, "growth": 1.02},),
        needs=frozenset({"params"}),
        optax_forms=("optax.contrib.dadapt_adamw",),
        optax_twin=lambda: optax.contrib.dadapt_adamw(
            0.8, (0.8, 0.99), eps=1e-6, estim_lr0=0.01, weight_decay=0.02
        ),
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.01, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "dadapt_sgd",
        "optimizer",
        optimizers.dadapt_sgd,
        {"learning_rate": 0.8, "b": 0.5, "d0": 0.01},
        "Defazio & Mishchenko (2023)",
        rate="inferred",
        usual_rate=1.0,
        variants=({"growth": 1.02},),
        needs=frozenset({"params"}),
        differs="Optax has no D-Adaptation of gradient descent.",
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
            "complex_rosenbrock": Goal(5000, 0.05, {"learning_rate": 0.003}),
        },
    ),
    Entry(
        "dadapt_lion",
        "optimizer",
        optimizers.dadapt_lion,
        {
            "learning_rate": 0.8,
            "b1": 0.8,
            "b2": 0.9,
            "d0": 0.01,
            "weight_decay": 0.02,
        },
        "Defazio & Mishchenko (2023)",
        rate="inferred",
        usual_rate=0.2,
        variants=({"growth": 1.02},),
        needs=frozenset({"params"}),
        differs="Optax has no D-Adaptation of Lion.",
        goals={
            "quadratic": Goal(300, 1e-1),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                5000, 0.1, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "cocob",
        "optimizer",
        optimizers.cocob,
        {"alpha": 8.0, "eps": 1e-6},
        "Orabona & Tommasi (2017)",
        rate="none",
        usual_rate=1.0,
        needs=frozenset({"params"}),
        elementwise=True,
        optax_forms=("optax.contrib.cocob",),
        optax_twin=lambda: optax.contrib.cocob(1.0, 8.0, 1e-6),
        goals={
            "quadratic": Goal(200, 1e-2),
            "complex_parabola": Goal(500, 1e-2),
            "complex_rosenbrock": Goal(5000, 0.2),
        },
    ),
    Entry(
        "adamg",
        "optimizer",
        optimizers.adamg,
        {
            "learning_rate": 0.4,
            "b1": 0.8,
            "b2": 0.99,
            "b3": 0.9,
            "eps": 1e-6,
            "p": 0.2,
            "q": 0.24,
        },
        "Pang, Yu, Hoang & Zhou (2024)",
        rate="inferred",
        usual_rate=1.0,
        elementwise=True,
        differs="Optax has no AdamG.",
        goals={
            "quadratic": Goal(300, 1e-2),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
            "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.03}),
        },
    ),
    Entry(
        "momo",
        "optimizer",
        optimizers.momo,
        {"learning_rate": 0.2, "b": 0.3, "lower_bound": -1.0, "weight_decay": 0.0},
        "Schaipp, Ohana, Eickenberg, Defazio & Gower (2024)",
        rate="inferred",
        usual_rate=1.0,
        # The gap to an estimated bound is a small difference of float32 scalars, so
        # `use_fstar` is compared with the authors' traces instead.
        variants=({"bias_correction": True, "weight_decay": 0.05},),
        needs=frozenset({"params", "value"}),
        optax_forms=("optax.contrib.momo",),
        optax_twin=lambda: optax.contrib.momo(0.2, 0.3, -1.0),
        goals={
            "quadratic": Goal(200, 1e-2, {"lower_bound": 0.0, "weight_decay": 0.0}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                2000, 0.15, {"learning_rate": 0.001, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "momo_adam",
        "optimizer",
        optimizers.momo_adam,
        {
            "learning_rate": 0.3,
            "b1": 0.5,
            "b2": 0.99,
            "eps": 1e-6,
            "lower_bound": -1.0,
            "weight_decay": 0.0,
        },
        "Schaipp, Ohana, Eickenberg, Defazio & Gower (2024)",
        rate="inferred",
        usual_rate=0.01,
        variants=({"weight_decay": 0.05},),
        needs=frozenset({"params", "value"}),
        optax_forms=("optax.contrib.momo_adam",),
        optax_twin=lambda: optax.contrib.momo_adam(0.3, 0.5, 0.99, 1e-6, -1.0),
        goals={
            "quadratic": Goal(200, 1e-2, {"lower_bound": 0.0}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "schedule_free_sgd",
        "optimizer",
        optimizers.schedule_free_sgd,
        {
            "learning_rate": 0.5,
            "b1": 0.8,
            "weight_decay": 0.01,
            "weight_power": 2.0,
            "step_power": 0.0,
        },
        "Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
        usual_rate=0.5,
        needs=frozenset({"params"}),
        elementwise=True,
        rate="inferred",
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.contrib.schedule_free_sgd",),
        optax_twin=lambda: optax.contrib.schedule_free(
            optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.5)), 0.5, 0.8
        ),
        goals={
            "quadratic": Goal(200, 1e-2, {"weight_decay": 1e-5}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                2000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "schedule_free_adamw",
        "optimizer",
        optimizers.schedule_free_adamw,
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.99,
            "eps": 1e-6,
            "weight_decay": 0.01,
            "weight_power": 2.0,
            "step_power": 0.0,
        },
        "Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
        usual_rate=0.005,
        needs=frozenset({"params"}),
        elementwise=True,
        rate="inferred",
        breaks={"zero_gradients": "the weights decay"},
        optax_forms=("optax.contrib.schedule_free_adamw",),
        optax_twin=lambda: optax.contrib.schedule_free(
            optax.adamw(0.1, 0.0, 0.99, 1e-6, weight_decay=0.01), 0.1, 0.8
        ),
        goals={
            "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-5}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
    Entry(
        "schedule_free_polyak",
        "optimizer",
        optimizers.schedule_free_polyak,
        {
            "learning_rate": 0.5,
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-6,
            "lower_bound": -1.0,
            "least_norm_sq": 1e-6,
        },
        "Oikonomou, Buchholz, Pun, Gower & Loizou (2025)",
        rate="path",
        needs=frozenset({"params", "value"}),
        differs="Optax has no schedule-free method at Polyak's rate.",
        goals={
            "quadratic": Goal(200, 1e-2, {"lower_bound": 0.0}),
            "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.3}),
            "complex_rosenbrock": Goal(5000, 0.05, {"learning_rate": 0.003}),
        },
    ),
    Entry(
        "schedule_free_radam",
        "optimizer",
        optimizers.schedule_free_radam,
        {
            "learning_rate": 0.2,
            "b1": 0.8,
            "b2": 0.9,
            "eps": 1e-6,
            "weight_decay": 0.01,
            "weight_power": 2.0,
            "step_power": 0.0,
        },
        "Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
        usual_rate=0.005,
        needs=frozenset({"params"}),
        elementwise=True,
        rate="inferred",
        breaks={"zero_gradients": "the weights decay"},
        differs="Optax has no schedule-free RAdam.",
        goals={
            "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-5}),
            "complex_parabola": Goal(
                500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
            ),
            "complex_rosenbrock": Goal(
                1000, 0.1, {"learning_rate": 0.003, "weight_decay": 0.0}
            ),
        },
    ),
)

_SCHEDULES = (
    Entry(
        "constant",
        "schedule",
        schedules.constant,
        {"value": 0.1},
        "Widrow & Hoff (1960)",
        optax_forms=("optax.constant_schedule",),
        optax_twin=lambda: optax.constant_schedule(0.1),
        over=lambda rate, total_steps: schedules.constant(rate),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "exponential_decay",
        "schedule",
        schedules.exponential_decay,
        {"initial": 0.8, "decay_rate": 0.8, "decay_steps": 8, "end": 0.1},
        "Darken & Moody (1990)",
        variants=({"staircase": True},),
        optax_forms=("optax.exponential_decay",),
        optax_twin=lambda: optax.exponential_decay(0.8, 8, 0.8, end_value=0.1),
        over=lambda rate, total_steps: schedules.exponential_decay(
            rate, decay_rate=0.01, decay_steps=total_steps
        ),
        goals={"quadratic": Goal(200, 5e-2)},
    ),
    Entry(
        "compound_decay",
        "schedule",
        schedules.compound_decay,
        {"initial": 0.8, "rate": 0.05, "periods": 4.0},
        "Bernoulli (1690)",
        differs="Optax has no compound decay.",
        over=lambda rate, total_steps: schedules.compound_decay(rate, 5 / total_steps),
        goals={"quadratic": Goal(200, 5e-2)},
    ),
    Entry(
        "inverse_sqrt",
        "schedule",
        schedules.inverse_sqrt,
        {"initial": 0.8, "rate": 0.1, "warmup_steps": 10},
        "Vaswani et al. (2017)",
        differs="Optax has no inverse square root.",
        over=lambda rate, total_steps: schedules.inverse_sqrt(
            rate, rate=20 / total_steps
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "inverse_time",
        "schedule",
        schedules.inverse_time,
        {"initial": 0.8, "rate": 0.05, "every": 7},
        "Robbins & Monro (1951)",
        differs="Optax has no inverse time.",
        over=lambda rate, total_steps: schedules.inverse_time(
            rate, rate=20 / total_steps
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "power_decay",
        "schedule",
        schedules.power_decay,
        {"initial": 0.8, "power": 0.75, "rate": 0.1},
        "Robbins & Monro (1951)",
        differs="Optax has no power decay.",
        over=lambda rate, total_steps: schedules.power_decay(
            rate, 0.75, 30 / total_steps
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "linear",
        "schedule",
        schedules.linear,
        {"initial": 0.8, "total_steps": 40, "end": 0.1},
        "Defazio et al. (2023)",
        optax_forms=("optax.linear_schedule",),
        optax_twin=lambda: optax.linear_schedule(0.8, 0.1, 40),
        over=lambda rate, total_steps: schedules.linear(rate, total_steps=total_steps),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "polynomial",
        "schedule",
        schedules.polynomial,
        {"initial": 0.8, "total_steps": 40, "power": 0.9, "end": 0.1},
        "Chen et al. (2017)",
        optax_forms=("optax.polynomial_schedule",),
        optax_twin=lambda: optax.polynomial_schedule(0.8, 0.1, 0.9, 40),
        over=lambda rate, total_steps: schedules.polynomial(
            rate, total_steps=total_steps, power=2.0
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "rex",
        "schedule",
        schedules.rex,
        {"initial": 0.8, "total_steps": 40, "end": 0.1},
        "Chen, Wolfe & Kyrillidis (2022)",
        differs="Optax has no REX.",
        over=lambda rate, total_steps: schedules.rex(rate, total_steps),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "step_decay",
        "schedule",
        schedules.step_decay,
        {"initial": 0.8, "factor": 0.5, "every": 16},
        "He, Zhang, Ren & Sun (2016)",
        optax_forms=("optax.exponential_decay",),
        optax_twin=lambda: optax.exponential_decay(0.8, 16, 0.5, staircase=True),
        over=lambda rate, total_steps: schedules.step_decay(
            rate, factor=0.1, every=max(total_steps // 3, 1)
        ),
        goals={"quadratic": Goal(200, 5e-2)},
    ),
    Entry(
        "piecewise",
        "schedule",
        schedules.piecewise,
        {"initial": 0.8, "boundaries": (10, 30), "factors": (0.5, 0.4)},
        "Krizhevsky, Sutskever & Hinton (2012)",
        optax_forms=("optax.piecewise_constant_schedule",),
        optax_twin=lambda: optax.piecewise_constant_schedule(0.8, {10: 0.5, 30: 0.4}),
        over=lambda rate, total_steps: schedules.piecewise(
            rate,
            (total_steps // 2, total_steps // 2 + max(total_steps // 4, 1)),
            (0.1, 0.1),
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "cosine",
        "schedule",
        schedules.cosine,
        {"peak": 0.8, "total_steps": 40, "warmup_steps": 5, "end": 0.1},
        "Loshchilov & Hutter (2017)",
        optax_forms=(
            "optax.cosine_decay_schedule",
            "optax.warmup_cosine_decay_schedule",
        ),
        optax_twin=lambda: optax.warmup_cosine_decay_schedule(0.0, 0.8, 5, 40, 0.1),
        over=lambda rate, total_steps: schedules.cosine(
            rate, total_steps, warmup_steps=total_steps // 20
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "cosine_restarts",
        "schedule",
        schedules.cosine_restarts,
        {
            "peak": 0.8,
            "first_cycle": 10,
            "cycle_mult": 2.0,
            "peak_decay": 0.8,
            "end": 0.05,
            "warmup_steps": 2,
            "start": 0.02,
        },
        "Loshchilov & Hutter (2017)",
        variants=({"warmup_steps": 0},),
        optax_forms=("optax.sgdr_schedule",),
        optax_twin=lambda: optax.sgdr_schedule(
            {
                "init_value": 0.02,
                "peak_value": peak,
                "warmup_steps": 2,
                "decay_steps": steps,
                "end_value": 0.05,
            }
            for peak, steps in ((0.8, 10), (0.64, 20), (0.512, 40))
        ),
        over=lambda rate, total_steps: schedules.cosine_restarts(
            rate, max(total_steps // 3, 1), 2.0
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "cyclic",
        "schedule",
        schedules.cyclic,
        {"low": 0.1, "high": 0.8, "half_cycle": 6, "fall_steps": 9, "gamma": 0.98},
        "Smith (2017)",
        variants=(
            {"fall_steps": None},
            {"mode": "triangular2"},
            {"mode": "exp_range"},
        ),
        differs="Optax has no cycles of triangles.",
        over=lambda rate, total_steps: schedules.cyclic(
            rate / 10, rate, max(total_steps // 10, 1)
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "one_cycle",
        "schedule",
        schedules.one_cycle,
        {
            "peak": 0.8,
            "total_steps": 40,
            "start_fraction": 0.25,
            "div_factor": 5.0,
            "final_div_factor": 10.0,
        },
        "Smith & Topin (2018)",
        variants=({"anneal": "linear"},),
        optax_forms=(
            "optax.cosine_onecycle_schedule",
            "optax.linear_onecycle_schedule",
        ),
        optax_twin=lambda: optax.cosine_onecycle_schedule(40, 0.8, 0.25, 5.0, 10.0),
        over=lambda rate, total_steps: schedules.one_cycle(
            rate, total_steps=total_steps
        ),
        goals={"quadratic": Goal(200, 1e-2, {"total_steps": 200})},
    ),
    Entry(
        "warmup_stable_decay",
        "schedule",
        schedules.warmup_stable_decay,
        {
            "peak": 0.8,
            "total_steps": 40,
            "warmup_steps": 5,
            "decay_steps": 20,
            "end": 0.1,
        },
        "Hu et al. (2024)",
        variants=(
            {"shape": "cosine"},
            {"shape": "mirror_cosine"},
            {"shape": "sqrt"},
            {"shape": "square"},
            {"shape": "exponential"},
        ),
        optax_twin=lambda: optax.join_schedules(
            [
                optax.linear_schedule(0.0, 0.8, 5),
                optax.constant_schedule(0.8),
                optax.linear_schedule(0.8, 0.1, 20),
            ],
            [5, 20],
        ),
        over=lambda rate, total_steps: schedules.warmup_stable_decay(
            rate,
            total_steps,
            warmup_steps=total_steps // 20,
            decay_steps=total_steps // 5,
            shape="sqrt",
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "warmup",
        "schedule",
        schedules.warmup,
        {
            "schedule": schedules.linear(0.8, total_steps=30, end=0.1),
            "steps": 6,
            "start": 0.05,
        },
        "Goyal et al. (2017)",
        optax_forms=("optax.warmup_constant_schedule",),
        optax_twin=lambda: optax.join_schedules(
            [optax.linear_schedule(0.05, 0.8, 6), optax.linear_schedule(0.8, 0.1, 30)],
            [6],
        ),
        over=lambda rate, total_steps: schedules.warmup(
            schedules.linear(rate, total_steps=total_steps - total_steps // 20),
            total_steps // 20,
        ),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "refine",
        "schedule",
        schedules.refine,
        {
            "grad_norms": tuple(3.0 - 0.1 * i + (i % 3) / 2 for i in range(24)),
            "peak": 0.8,
            "total_steps": 60,
        },
        "Defazio et al. (2023)",
        variants=({"norm": "l1"}, {"padding": "nearest"}),
        differs="Optax has no refinement.",
        goals={"quadratic": Goal(200, 1e-2, {"total_steps": 200})},
    ),
)

_CONTROLLERS = (
    Entry(
        "reduce_on_plateau",
        "controller",
        controllers.reduce_on_plateau,
        {
            "factor": 0.5,
            "patience": 2,
            "threshold": 1e-3,
            "cooldown": 1,
            "min_scale": 0.01,
            "window": 2,
        },
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        variants=(
            {"threshold_mode": "absolute"},
            {"mode": "max"},
            {"trend": 4, "patience": 1},
            {"convention": "torch"},
            {"convention": "keras"},
            {"convention": "optax"},
        ),
        static=frozenset({"trend"}),
        needs=frozenset({"value"}),
        optax_forms=("optax.contrib.reduce_on_plateau",),
        differs="Its conventions are compared with traces, Optax's among them.",
    ),
    Entry(
        "bold_driver",
        "controller",
        controllers.bold_driver,
        {
            "increase": 1.1,
            "decrease": 0.6,
            "tolerance": 1.001,
            "decay": 0.3,
            "window": 2,
            "min_scale": 0.1,
            "max_scale": 1.4,
        },
        "Vogl, Mangis, Rigler, Zink & Alkon (1988)",
        variants=({"mode": "max"},),
        needs=frozenset({"value"}),
        differs="Optax has no bold driver.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "loss_ratio",
        "controller",
        controllers.loss_ratio,
        {"lower_bound": 0.5, "min_scale": 0.05, "decay": 0.3},
        'the "loss ratio" 1 − L / L_min',
        variants=({"reference": "current"},),
        needs=frozenset({"value"}),
        differs="Optax has no loss ratio.",
        goals={"quadratic": Goal(200, 5e-2, {"lower_bound": 1e-3})},
    ),
    Entry(
        "greedy",
        "controller",
        controllers.greedy,
        {
            "factor": 0.8,
            "patience": 1,
            "threshold": 1e-4,
            "cooldown": 1,
            "warmup": 2,
            "min_scale": 0.7,
            "max_scale": 1.5,
            "reset": 9,
            "window": 3,
        },
        "Subramanian, Krishnamoorthy & Murthy (2025)",
        variants=({"threshold_mode": "relative"}, {"mode": "max"}),
        static=frozenset({"window"}),
        needs=frozenset({"value"}),
        differs="Optax has no GreedyLR.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "early_stop",
        "controller",
        controllers.early_stop,
        {"patience": 2, "min_delta": 1e-3, "window": 2, "max_lost": 3},
        "Prechelt (1998)",
        variants=({"target": 0.5}, {"mode": "max"}),
        needs=frozenset({"value"}),
        differs="Optax has no early stopping.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "phases",
        "controller",
        controllers.phases,
        {
            "warmup": schedules.linear(0.2, total_steps=6, end=1.0),
            "controller": controllers.reduce_on_plateau(0.5, patience=1),
            "cooldown": schedules.linear(1.0, total_steps=20, end=0.1),
            "warmup_steps": 6,
            "cooldown_at": 32,
        },
        "Hu et al. (2024)",
        needs=frozenset({"value"}),
        differs="Optax has no cool-down from where a plateau leaves the rate.",
        goals={"quadratic": Goal(200, 1e-2, {"cooldown_at": 150})},
    ),
    Entry(
        "hypergradient",
        "controller",
        controllers.hypergradient,
        {"beta": 0.05, "initial": 0.5, "min_scale": 0.1, "max_scale": 4.0},
        "Baydin, Cornish, Martínez Rubio, Schmidt & Wood (2018)",
        variants=({"rule": "additive"},),
        differs="Optax has no hypergradient descent.",
        goals={"quadratic": Goal(200, 1e-2, {"initial": 0.2})},
    ),
    Entry(
        "gradient_variance",
        "controller",
        controllers.gradient_variance,
        {"decay": 0.9, "exponent": 0.5, "min_scale": 0.02, "max_scale": 3.0},
        "McCandlish, Kaplan, Amodei et al. (2018)",
        variants=({"by": "norm"}, {"micro_batches": True}),
        variant_needs={True: frozenset({"micro_norms"})},
        differs="Optax has no rate that follows the gradient noise.",
        goals={"quadratic": Goal(200, 1e-2, {"max_scale": 1.5})},
    ),
    Entry(
        "stationarity",
        "controller",
        controllers.stationarity,
        {
            "factor": 0.5,
            "significance": 0.01,
            "warmup": 4,
            "every": 3,
            "min_scale": 0.1,
            "window": 32,
        },
        "Zhang, Lang, Liu & Xiao (2020)",
        static=frozenset({"window"}),
        variants=({"test": "slope"}, {"test": "pflug"}),
        needs=frozenset({"params"}),
        variant_needs={"slope": frozenset({"value"}), "pflug": frozenset()},
        differs="Optax has no tests of stationarity.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
)

_ESTIMATES = (
    Entry(
        "adgd",
        "estimate",
        estimates.adgd,
        {"initial": 0.3},
        "Malitsky & Mishchenko (2020)",
        variants=({"tight": True},),
        needs=frozenset({"params"}),
        differs="Optax has no AdGD.",
        goals={"quadratic": Goal(200, 1e-2, {"initial": 1e-6})},
    ),
    Entry(
        "adgd2",
        "estimate",
        estimates.adgd2,
        {"initial": 0.3},
        "Malitsky & Mishchenko (2024)",
        needs=frozenset({"params"}),
        differs="Optax has no AdGD.",
        goals={"quadratic": Goal(200, 1e-2, {"initial": 1e-6})},
    ),
    Entry(
        "cdat",
        "estimate",
        estimates.cdat,
        {"sigma": 1.5, "decay": 0.8, "eps": 50.0},
        "Roulet, Agarwala, Grill, Swirszcz, Blondel & Pedregosa (2024)",
        needs=frozenset({"params", "grad_fn"}),
        differs="Optax has no CDAT.",
        goals={"quadratic": Goal(200, 1e-2, {"eps": 1e-12})},
    ),
    Entry(
        "dog",
        "estimate",
        estimates.dog,
        {"reps_rel": 0.02, "eps": 1e-3},
        "Ivgi, Hinder & Carmon (2023)",
        needs=frozenset({"params"}),
        optax_forms=("optax.contrib.dog",),
        optax_twin=lambda: optax.contrib.dog(1.0, ("heuristic", 0.02), 1e-3),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "l_dog",
        "estimate",
        estimates.l_dog,
        {"reps_rel": 0.02, "eps": 1e-3},
        "Ivgi, Hinder & Carmon (2023)",
        needs=frozenset({"params"}),
        by_leaf=True,
        breaks={"learning_rate": "each leaf has a rate of its own"},
        differs="Optax has no DoG by leaf.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "dowg",
        "estimate",
        estimates.dowg,
        {"reps_rel": 0.02},
        "Khaled, Mishchenko & Jin (2023)",
        needs=frozenset({"params"}),
        optax_forms=("optax.contrib.dowg",),
        differs="optax.contrib.dowg adds an ε to the root.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "polyak",
        "estimate",
        estimates.polyak,
        {"max_rate": 0.2, "c": 0.5, "lower_bound": 0.1, "eps": 1e-6, "growth": 1.25},
        "Loizou, Vaswani, Laradji & Lacoste-Julien (2021)",
        variants=(
            {"growth": None},
            {"max_rate": None, "growth": None},
            {"soft": True},
        ),
        needs=frozenset({"value"}),
        optax_forms=("optax.polyak_sgd",),
        differs="optax.polyak_sgd has neither smoothing nor a soft cap.",
        goals={"quadratic": Goal(200, 1e-2, {"lower_bound": 0.0})},
    ),
    Entry(
        "line_search",
        "estimate",
        estimates.line_search,
        {
            "initial": 0.3,
            "c": 0.25,
            "decrease": 0.75,
            "increase": 1.25,
            "max_rate": 10.0,
            "max_trials": 30,
            "tolerance": 1e-7,
        },
        "Vaswani, Mishkin, Laradji, Schmidt, Gidel & Lacoste-Julien (2019)",
        variants=({"test": "goldstein"},),
        needs=frozenset({"params", "value", "grad", "value_fn"}),
        optax_forms=("optax.scale_by_backtracking_linesearch",),
        differs="optax.scale_by_backtracking_linesearch expects updates downhill.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
)

_WRAPPERS = (
    Entry(
        "accumulate",
        "wrapper",
        wrappers.accumulate,
        {"learning_rate": 0.1, "every": 2},
        "the mean over a batch is the mean of the means over equal parts of it",
        breaks={"nonfinite": "it moves by the finite gradients of the other calls"},
        optax_forms=("optax.MultiSteps",),
        optax_twin=lambda: optax.MultiSteps(
            _momentum_of_optax(), 2
        ).gradient_transformation(),
        calls=2,
        goals={"quadratic": Goal(400, 1e-2)},
    ),
    Entry(
        "iterate_average",
        "wrapper",
        wrappers.iterate_average,
        {"learning_rate": 0.1, "gamma": 8.0},
        "Shamir & Zhang (2013)",
        variants=({"decay": 0.9},),
        needs=frozenset({"params"}),
        optax_twin=lambda: _momentum_of_optax(),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "mechanic",
        "wrapper",
        wrappers.mechanic,
        {
            "learning_rate": 1.0,
            "initial_scale": 0.03,
            "weight_decay": 0.02,
            "eps": 1e-4,
            "betas": (0.8, 0.95, 0.99),
        },
        "Cutkosky, Defazio & Mehta (2023)",
        needs=frozenset({"params"}),
        rate="path",
        optax_forms=("optax.contrib.mechanize",),
        differs="optax.contrib.mechanize clips h and adds ε to m.",
        steady=None,
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "monitor",
        "wrapper",
        wrappers.monitor,
        {"learning_rate": 0.1},
        "A. Karpathy (2015)",
        needs=frozenset({"params"}),
        optax_twin=lambda: _momentum_of_optax(),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "packed",
        "wrapper",
        wrappers.packed,
        {"learning_rate": 0.1},
        "the concatenation of vectors commutes with whatever treats each coordinate "
        "alone",
        elementwise=True,
        regroups=True,
        breaks={"map_params": "small leaves are kept in flat buffers"},
        optax_twin=lambda: _momentum_of_optax(),
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "quantized",
        "wrapper",
        wrappers.quantized,
        {"learning_rate": 0.1, "block": 8, "smallest": 1},
        "Dettmers, Lewis, Shleifer & Zettlemoyer (2022)",
        static=frozenset({"block", "smallest"}),
        by_leaf=True,
        breaks={
            "complex": "complex moments are not quantized, real ones are",
            "map_params": "moments are kept in blocks of codes",
        },
        steady={"smallest": 4096},
        differs="Optax has none.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "schedule_free",
        "wrapper",
        wrappers.schedule_free,
        {"learning_rate": 0.1, "b1": 0.8, "weight_power": 2.0, "step_power": 1.5},
        "Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
        needs=frozenset({"params"}),
        rate="inferred",
        optax_forms=("optax.contrib.schedule_free",),
        differs="optax.contrib.schedule_free has no power of the step.",
        steady=None,
        goals={"quadratic": Goal(400, 1e-2)},
    ),
    Entry(
        "spike_guard",
        "wrapper",
        wrappers.spike_guard,
        {
            "learning_rate": 0.1,
            "sigma": 2.0,
            "patience": 2,
            "factor": 0.5,
            "recovery": 1.25,
            "min_scale": 0.125,
            "min_deviation": 1e-3,
        },
        "Groeneveld et al. (2024)",
        variants=({"window": 8},),
        static=frozenset({"window"}),
        needs=frozenset({"value"}),
        optax_forms=("optax.apply_if_finite",),
        differs="Optax has no guard against spikes.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "reject_increase",
        "wrapper",
        wrappers.reject_increase,
        {
            "learning_rate": 0.1,
            "tolerance": 1.005,
            "decrease": 0.5,
            "increase": 1.25,
            "min_scale": 0.125,
            "max_scale": 4.0,
            "decay": 0.25,
        },
        "Vogl et al. (1988)",
        variants=({"restart": True},),
        needs=frozenset({"params", "value"}),
        differs="Optax has no rejection of steps.",
        steady={"increase": 1.0},
        goals={
            "quadratic": Goal(200, 1e-2),
            "ill_conditioned": Goal(
                200, 1e-2, {"learning_rate": 300.0, "tolerance": 1.04, "min_scale": 0.0}
            ),
        },
    ),
    Entry(
        "restore_best",
        "wrapper",
        wrappers.restore_best,
        {"learning_rate": 0.1},
        "Keras, `keras.callbacks.EarlyStopping(restore_best_weights=True)`",
        variants=({"restart": False},),
        needs=frozenset({"params", "value"}),
        differs="Optax does not go back.",
        goals={"quadratic": Goal(200, 1e-2)},
    ),
    Entry(
        "trac",
        "wrapper",
        wrappers.trac,
        {"learning_rate": 1.0, "initial_scale": 0.05, "betas": (0.95, 0.999)},
        "Muppidi, Zhang & Yang (2024)",
        needs=frozenset({"params"}),
        rate="path",
        differs="Optax has no TRAC.",
        steady=None,
        goals={"quadratic": Goal(200, 1e-2)},
    ),
)


def _momentum_of_optax() -> optax.GradientTransformation:
    return optax.chain(optax.scale(1 - 0.9), optax.sgd(0.1, momentum=0.9))


ENTRIES: tuple[Entry, ...] = (
    *_OPTIMIZERS,
    *_LEARNING_RATE_FREE,
    *_SCHEDULES,
    *_CONTROLLERS,
    *_ESTIMATES,
    *_WRAPPERS,
)
