"""The report of the speed benchmark: targets, tables and a figure."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptax.bench.shared.records import machine, markdown, versions

OURS, THEIRS, FLAT = "adaptax", "optax", "optax.flatten"
PACKED, PACKED_PARAMS = "adaptax.packed", "adaptax.pack"
CONTROLLED, WATCHED = "adaptax, controlled", "adaptax, controlled and monitored"
HALVES, BYTES = "adaptax, bfloat16", "adaptax.quantized"
FUSED, FOREACH = "torch, fused", "torch, foreach"
COMPARED = (OURS, PACKED, PACKED_PARAMS, FLAT, FUSED, FOREACH)
FORMS = (THEIRS, OURS, CONTROLLED, WATCHED, HALVES, BYTES)
CLOSE = 1.05
FASTER = (
    (PACKED, "400 x (16,)", 3),
    (PACKED, "1000 x (1000,)", 2),
    (PACKED_PARAMS, "400 x (16,)", 20),
    (PACKED_PARAMS, "1000 x (1000,)", 5),
    (PACKED_PARAMS, "400 x (64, 64)", 1.7),
)

Row = Mapping[str, Any]
Cells = dict[str, str]


def write_report(rows: Sequence[Row], out: Path) -> None:
    """Write `speed.md` into a folder, and `speed.png` if Matplotlib is installed."""
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    parts = [
        "# The speed benchmark: all tables",
        "Written by `python -m adaptax.bench speed`. The docstring of\n"
        "`adaptax.bench.speed.benchmark` says what is measured.\n"
        f"{machine()['cores']} cores, {machine()['processor']}; {found}.",
    ]
    for title, cells in {
        "Targets": target_rows(rows),
        "Steps, as a multiple of Optax's": step_rows(rows),
        "Tracing and compiling, as a multiple of Optax's": compile_rows(rows),
        "Adam in other forms": form_rows(rows),
    }.items():
        if cells:
            parts += [f"## {title}", markdown(cells)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.md").write_text("\n\n".join(parts) + "\n")
    if importlib.util.find_spec("matplotlib"):
        draw(rows, out / "speed.png")
    else:
        print('No figure: it needs Matplotlib, pip install "adaptax[plots]".')


def target_rows(rows: Sequence[Row]) -> list[Cells]:
    """Return the measured value for each target that applies to the rows."""
    steps = {(row["way"], row["tree"], row["method"]): row for row in rows}
    cells = []

    def add(target, measured):
        cells.append({"target": target, "measured": measured})

    for way in (OURS, PACKED, PACKED_PARAMS):
        ratios = [
            row["ratio_to_optax"]
            for row in rows
            if row["way"] == way and row["ratio_to_optax"] != ""
        ]
        if ratios:
            close = sum(ratio <= CLOSE for ratio in ratios)
            others = f"; the others up to {_short(max(ratios))}"
            add(
                f"`{way}`: at most {CLOSE} times Optax's time",
                f"{close} of {len(ratios)} pairs of tree and method"
                + (others if close < len(ratios) else ""),
            )
    for way, tree, times in FASTER:
        if row := steps.get((way, tree, "adam")):
            ratio = row["ratio_to_optax"]
            add(f"`{way}`, {tree}: {times} times as fast", _short(1 / ratio))
    many = "1000 x (1000,)"
    for way in (PACKED_PARAMS, PACKED):
        if row := steps.get((way, many, "adam")):
            theirs = steps[THEIRS, many, "adam"]
            part = _compiling(row) / _compiling(theirs)
            add(f"`{way}`, {many}: tracing and compiling at most 0.2", _short(part))
    if peer := steps.get((FUSED, many, "adam")):
        part = steps[PACKED_PARAMS, many, "adam"]["ratio_to_optax"]
        add(
            f"`{PACKED_PARAMS}`, {many}: faster than PyTorch's fused Adam",
            f"{_short(peer['ratio_to_optax'] / part)} times as fast",
        )
    for way in (CONTROLLED, WATCHED):
        if row := steps.get((way, "transformer", "adam")):
            add(
                f"{way}: at most {CLOSE} times the time of Adam (transformer)",
                _short(row["ratio_to_adaptax"]),
            )
    return cells


def step_rows(rows: Sequence[Row]) -> list[Cells]:
    """Return the times of the steps as multiples of Optax's."""
    return [
        _beside(place, {THEIRS: f"{ways[THEIRS]['ms']:.3g} ms"}, COMPARED, ways)
        for place, ways in _places(rows).items()
    ]


def compile_rows(rows: Sequence[Row]) -> list[Cells]:
    """Return the times of tracing and compiling as multiples of Optax's."""
    cells = []
    for place, ways in _places(rows).items():
        theirs = _compiling(ways[THEIRS])
        ratios = {
            way: {"ratio_to_optax": _compiling(row) / theirs}
            for way, row in ways.items()
            if row["compile_s"] != ""
        }
        cells.append(_beside(place, {THEIRS: f"{theirs:.2g} s"}, COMPARED[:4], ratios))
    return cells


def form_rows(rows: Sequence[Row]) -> list[Cells]:
    """Return the memory and the time of Adam in every form."""
    return [
        {
            "tree": row["tree"],
            "Adam": row["way"],
            "ms": f"{row['ms']:.3g}",
            "ratio to adaptax": _short(row["ratio_to_adaptax"]),
            "state, bytes a parameter": f"{row['state']:.2f}",
            "moved, bytes a parameter": f"{row['moved']:.0f}",
            "share of the bandwidth": f"{row['bandwidth']:.0%}",
        }
        for place, ways in _places(rows).items()
        if place[1] == "adam"
        for row in (ways[form] for form in FORMS if form in ways)
    ]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the times of the steps as multiples of Optax's."""
    from matplotlib.figure import Figure

    rows = [
        row for row in rows if row["way"] in COMPARED and row["ratio_to_optax"] != ""
    ]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    trees = list(dict.fromkeys(row["tree"] for row in rows))
    ways = [way for way in COMPARED if any(row["way"] == way for row in rows)]
    figure = Figure((9, 1.2 + 1.6 * len(methods)), layout="constrained")
    panels = figure.subplots(len(methods), squeeze=False, sharex=True, sharey=True)
    width = 0.8 / len(ways)
    for axes, method in zip(panels[:, 0], methods, strict=True):
        for place, way in enumerate(ways):
            ratio = {
                row["tree"]: row["ratio_to_optax"]
                for row in rows
                if (row["method"], row["way"]) == (method, way)
            }
            where = [trees.index(tree) + width * place - 0.4 for tree in ratio]
            axes.bar(
                where,
                [value - 1 for value in ratio.values()],
                width,
                bottom=1,
                align="edge",
                color=f"C{place}",
                label=way,
            )
        axes.axhline(1, color="0.3", linewidth=0.8)
        axes.set(yscale="log", title=method, ylabel="× Optax")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(axis="y", alpha=0.3)
    panels[-1, 0].set_xticks(range(len(trees)), trees, fontsize="small")
    handles = {}
    for axes in panels[:, 0]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _places(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """Group the rows of Optax's methods by tree and method."""
    places: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        places.setdefault((row["tree"], row["method"]), {})[row["way"]] = row
    return {place: ways for place, ways in places.items() if THEIRS in ways}


def _beside(place, theirs: Cells, names, ways: Mapping[str, Row]) -> Cells:
    ratios = {
        name: _short(ways[name]["ratio_to_optax"]) if name in ways else ""
        for name in names
    }
    return {"tree": place[0], "method": place[1], **theirs, **ratios}


def _compiling(row: Row) -> float:
    return row["trace_s"] + row["compile_s"]


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
