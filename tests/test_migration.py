"""The page for those who come from other libraries says what is so.

Its tables have a call of the library, the same call here, and the defaults here that
differ. Both calls are made: Optax's run beside ours, those of PyTorch and Keras are
compared with their traces in `tests/reference`.
"""

import ast
import functools
import inspect
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import contract_of
from test_words import FORMS, found

import adaptax
from adaptax import catalog
from adaptax._core import words

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "migration.md").read_text("utf-8")
REFERENCE = ROOT / "tests" / "reference"
EMPTY = inspect.Parameter.empty


class Row:
    """A row of a table: spans of code are read with the backticks taken off."""

    def __init__(self, section, cells):
        self.section, self.library = section, section.rpartition(" ")[2]
        self.theirs, self.ours = cells[0].strip("`"), cells[1]
        self.is_equal = not self.ours.startswith("≈")
        self.code = spans(self.ours)[0]
        self.defaults = spans(cells[2])

    @property
    def name(self):
        """What is called, without `optax.`."""
        call = ast.parse(self.theirs, mode="eval").body
        return ast.unparse(call.func).removeprefix("optax.")


def spans(text):
    return re.findall(r"`([^`]+)`", text)


def tables():
    """Yield the heading of each section and the cells of each row in it."""
    section = ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("| ") and not line.startswith("|--"):
            yield section, [cell.strip() for cell in line.strip("|").split("|")]


ROWS = [
    Row(section, cells)
    for section, cells in tables()
    if cells[0].startswith("`") and section != "Arguments that have another name here"
]
TWINS = [entry for entry in catalog.ENTRIES if contract_of(entry).optax_twin]
"""What the contract compares with Optax."""

WRAPPERS = "Plateau and wrappers of Optax"
PLATEAU = {row.library: row.theirs for row in ROWS if "plateau" in row.theirs.lower()}
WORDS = [cells for section, cells in tables() if section.startswith("Arguments")][1:]
CALLS = {
    library: [row for row in ROWS if row.library == library]
    for library in ("Optax", "PyTorch", "Keras")
}


SHORT_FORMS = [
    (factory, form)
    for factory, form in FORMS
    if not factory.__name__.startswith("scale_")
]
"""Factories with a like in Optax; their directions have the same defaults."""


def calls(code):
    """Yield what is called in code of adaptax, and the node of the call."""
    try:
        tree = ast.parse(code, mode="eval")
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Call):
            path = ast.unparse(node.func)
            if not path.startswith("optax."):
                thing = adaptax
                for part in path.removeprefix("adaptax.").split("."):
                    thing = getattr(thing, part, None)
                if callable(thing):
                    yield thing, node
                else:
                    assert not path.startswith("adaptax."), path


def test_the_page_has_a_table_for_each_part_of_each_library():
    least = {"Optax": 46, "PyTorch": 21, "Keras": 16}
    assert all(len(CALLS[library]) >= least[library] for library in least)
    assert len(WORDS) > 20


def test_every_name_and_argument_of_adaptax_exists():
    code = [*re.findall(r"`([^`\n]+)`", PAGE)]
    code += [
        span.replace("\n", " ") for span in re.findall(r"`([^`|]+\n[^`|]+)`", PAGE)
    ]
    seen = 0
    for thing, node in (call for span in code for call in calls(span)):
        named = {keyword.arg: None for keyword in node.keywords}
        positional = [a for a in node.args if not isinstance(a, ast.Starred)]
        inspect.signature(thing).bind_partial(*positional, **named)
        seen += 1
    assert seen > 100
    for row in ROWS:
        assert list(calls(row.code)), row.code


def test_every_name_of_optax_exists():
    for path in set(re.findall(r"optax(?:\.\w+)+", PAGE)):
        assert found(path) is not None, path


def test_every_method_that_optax_has_by_a_like_name_has_a_row():
    rows = {row.name for row in ROWS} | {"scale_by_backtracking_linesearch"}
    for entry in catalog.ENTRIES:
        for form in contract_of(entry).optax_forms:
            assert form.removeprefix("optax.") in rows, form


def default(factory, name):
    return inspect.signature(factory).parameters[name].default


def test_every_default_on_the_page_is_that_of_the_factory():
    for row in ROWS:
        for span in row.defaults:
            name, equals, value = span.partition("=")
            if equals and name.isidentifier():
                value = ast.literal_eval(value)
                factories = [one for one, _ in calls(row.code)]
                takers = [
                    f for f in factories if name in inspect.signature(f).parameters
                ]
                assert value in [default(one, name) for one in takers], (row.code, span)


def listed(rows, name):
    """Return whether a default of ours stands in the last cell of one of the rows."""
    return any(span.startswith(f"{name}=") for row in rows for span in row.defaults)


def test_every_default_that_is_not_that_of_optax_is_on_the_page():
    seen = 0
    for factory, form in SHORT_FORMS:
        theirs = inspect.signature(form).parameters
        called = getattr(
            form, "__name__", factory.__name__
        )  # nadam is a partial of adam
        rows = [row for row in CALLS["Optax"] if called in row.theirs]
        for word, parameter in theirs.items():
            name = words.ours(word, factory)
            if name is None or " and " in name:
                continue
            ours = default(factory, name)
            same = parameter.default == ours or {parameter.default, ours} == {None, 0}
            if EMPTY in (parameter.default, ours) or same:
                continue
            if word in ("atol", "num_betas"):  # beside rtol; the length of betas
                continue
            in_a_call = any(f"{name}=" in row.code for row in rows)
            assert listed(rows, name) or (ours is None and in_a_call), (factory, word)
            seen += 1
    assert seen > 8


@pytest.mark.parametrize(
    "entry",
    [one for one in TWINS if one.family == "optimizer"],
    ids=lambda entry: entry.name,
)
def test_what_optax_has_not_is_by_default_as_in_optax_or_on_the_page(entry):
    """The contract compares the examples with Optax, which has them one way alone."""
    forms = [
        inspect.signature(form) for factory, form in FORMS if factory is entry.factory
    ]
    known = {
        words.ours(word, entry.factory) for form in forms for word in form.parameters
    }
    known = {part for name in known if name for part in name.split(" and ")}
    rows = [row for row in CALLS["Optax"] if entry.factory.__name__ in row.code]
    for name in entry.hyperparameters.keys() - known:
        is_same = default(entry.factory, name) == entry.hyperparameters[name]
        assert is_same or listed(rows, name), name


def test_what_a_call_here_must_give_besides_is_a_default_on_the_page():
    for row in ROWS:
        given = {
            keyword.arg
            for node in ast.walk(ast.parse(row.theirs))
            if isinstance(node, ast.Call)
            for keyword in node.keywords
        }
        for factory, node in calls(row.code):
            given_here = given | {words.ours(word, factory) for word in given}
            for keyword in node.keywords:
                is_number = isinstance(keyword.value, ast.Constant)
                if is_number and row.is_equal and keyword.arg not in given_here:
                    assert listed([row], keyword.arg), (row.code, keyword.arg)


def test_a_default_that_differs_is_said_in_the_first_words_of_the_factory():
    seen = set()
    for row in ROWS:
        names = {span.partition("=")[0] for span in row.defaults if "=" in span}
        if row.section.startswith("Schedul"):
            continue
        for factory, _ in calls(row.code):
            takes = inspect.signature(factory).parameters
            if names & takes.keys() and not factory.__name__.startswith("scale_by_"):
                first, _, _ = factory.__doc__.partition("Args:")
                assert row.library.lower() in first.lower(), factory.__name__
                seen.add(factory)
    assert len(seen) > 10


def test_every_word_of_optax_that_is_another_here_is_on_the_page():
    names = {
        (word, part)
        for theirs, ours, _ in WORDS
        for word in spans(theirs)
        for part in spans(ours)
    }
    for factory, form in SHORT_FORMS:
        for word in inspect.signature(form).parameters:
            name = words.ours(word, factory)
            if name and name != word:
                assert all((word, part) in names for part in name.split(" and ")), word
    for word, _ in names:
        assert word in words.WORDS, word


PARAMS = jnp.asarray([[0.5, -0.25, 2.0], [1.0, -1.5, 0.75]])
SCOPE = {
    "optax": optax,
    "adaptax": adaptax,
    "lr": 0.1,
    "b": 0.8,
    "r": 0.7,
    "d": 0.02,
    "e": 1e-3,
    "p": 1.5,
    "a": 0.2,
    "n": 20,
    "k": 2,
    "inner": optax.sgd(0.1),
}
STEPS = 4
FILES = {"PyTorch": "torch", "Keras": "keras"}


def record_of(name):
    return json.loads((REFERENCE / f"{name}.json").read_text("utf-8"))


def is_twin(row):
    """Return whether the contract compares these two calls: one name with one rate."""
    name = row.code.removeprefix("adaptax.").removesuffix("(lr)").removesuffix("()")
    return any(one.name == name for one in TWINS)


def compared(section):
    return [row for row in ROWS if row.section == section and row.is_equal]


OPTIMIZERS = [
    row
    for row in [*compared("Optimizers of Optax"), *compared(WRAPPERS)]
    if not is_twin(row) and "plateau" not in row.theirs
]
OF_OTHERS = {
    library: compared(f"Optimizers of {library}") for library in ("PyTorch", "Keras")
}
SCHEDULES = compared("Schedules of Optax")


def loss(params, step):
    return jnp.sum((params - jnp.sin(step + jnp.arange(6.0).reshape(2, 3))) ** 2)


def paths_of(optimizers):
    """Return the parameters after each step, of many optimizers in one program."""

    def advance(carry, step):
        after = {}
        for name, (params, state) in carry.items():
            tx = optimizers[name]
            if not isinstance(tx, optax.MultiSteps):
                tx = optax.with_extra_args_support(tx)
            value, grads = jax.value_and_grad(loss)(params, step)
            extra = {"value": value, "grad": grads}
            extra["value_fn"] = lambda params: loss(params, step)
            updates, state = tx.update(grads, state, params, **extra)
            after[name] = optax.apply_updates(params, updates), state
        return after, {name: params for name, (params, _) in after.items()}

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def program():
        start = {name: (PARAMS, tx.init(PARAMS)) for name, tx in optimizers.items()}
        return jax.lax.scan(advance, start, jnp.arange(float(STEPS)))[1]

    return program()


@functools.cache
def paths_of_ours():
    rows = [*OPTIMIZERS, *OF_OTHERS["PyTorch"], *OF_OTHERS["Keras"]]
    return paths_of({row.code: eval(row.code, dict(SCOPE)) for row in rows})


@functools.cache
def paths_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        return paths_of({r.theirs: eval(r.theirs, dict(SCOPE)) for r in OPTIMIZERS})


@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.theirs)
def test_both_calls_take_the_same_steps(row):
    actual, expected = paths_of_ours()[row.code], paths_of_optax()[row.theirs]
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-5)
    assert np.ptp(expected) > 0


@pytest.mark.parametrize("library", FILES)
def test_optimizers_take_the_steps_of_their_like_in_other_libraries(library):
    record = record_of(FILES[library] + "_optimizers")
    assert record["start"] == PARAMS.tolist()
    assert record["numbers"].items() <= SCOPE.items()
    traces = record["traces"]
    assert traces.keys() == {row.theirs for row in OF_OTHERS[library]}
    for row in OF_OTHERS[library]:
        expected = traces[row.theirs][:STEPS]
        actual = paths_of_ours()[row.code]
        np.testing.assert_allclose(actual, expected, 2e-5, 1e-5, err_msg=row.theirs)


@functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)
def rates_of(schedules):
    """Return the rates of many schedules, from one program."""
    steps = jnp.arange(60)
    return [jax.vmap(lambda t, s=s: jnp.asarray(s(t), float))(steps) for s in schedules]


def test_both_calls_are_the_same_schedule():
    actual = rates_of(tuple(eval(row.code, dict(SCOPE)) for row in SCHEDULES))
    with jax.numpy_dtype_promotion("standard"):
        theirs = rates_of(tuple(eval(row.theirs, dict(SCOPE)) for row in SCHEDULES))
    for row, ours, expected in zip(SCHEDULES, actual, theirs, strict=True):
        np.testing.assert_allclose(ours, expected, 2e-5, 1e-7, err_msg=row.theirs)


HERE = {"cos": "cosine", "rel": "relative", "abs": "absolute"}
BY_DEFAULT = {
    "mode": "triangular",
    "gamma": 1.0,
    "step_size_down": None,
    "pct_start": 0.3,
    "anneal_strategy": "cos",
    "div_factor": 25.0,
    "final_div_factor": 1e4,
    "staircase": False,
    "alpha": 0.0,
}
"""What PyTorch and Keras take where the call of a trace says nothing."""


def bound(row, given):
    """Return the letters in a call on the page the values that the call of a trace has.

    `None` where it is another call.
    """
    letters, wanted = {}, dict(given)
    for keyword in ast.parse(row.theirs, mode="eval").body.keywords:
        value = wanted.pop(keyword.arg, BY_DEFAULT.get(keyword.arg, ...))
        if isinstance(keyword.value, ast.Name) and value is not ...:
            name = keyword.value.id
            letters[name] = HERE[value] if value in ("cos", "rel", "abs") else value
        elif ast.unparse(keyword.value) != str(value):
            return None
    return None if wanted else letters


@pytest.mark.parametrize("library", FILES)
def test_schedules_have_the_rates_of_their_like_in_other_libraries(library):
    record = record_of(FILES[library] + "_schedules")
    first = {"initial_learning_rate": record["initial"]} if library == "Keras" else {}
    rows = [row for row in CALLS[library] if row.is_equal]
    rows = [row for row in rows if row not in OF_OTHERS[library]]
    pairs = [
        (row, trace["rates"], {"lr": record["initial"], **letters})
        for name, trace in record["traces"].items()
        for row in rows
        if row.name == name.split()[0]
        for letters in [bound(row, first | trace["arguments"])]
        if letters is not None
    ]
    assert len(pairs) >= len(record["traces"])
    seen = {row.theirs for row, _, _ in pairs}
    assert {row.theirs for row in rows} - seen == {PLATEAU[library]}
    made = tuple(eval(row.code, {**SCOPE, **letters}) for row, _, letters in pairs)
    for ours, (row, expected, _) in zip(rates_of(made), pairs, strict=True):
        actual = ours[: len(expected)]
        np.testing.assert_allclose(actual, expected, 2e-5, 2e-7, err_msg=row.theirs)


@pytest.mark.parametrize("library", CALLS)
def test_plateaus_cut_where_their_like_in_other_libraries_do(library):
    (row,) = [row for row in CALLS[library] if "plateau" in row.theirs.lower()]
    record = record_of("plateau_traces")
    about = "by default" if library == "Optax" else "patience of 2"
    letters = {"f": 0.5, "p": 2, "t": 0.01, "m": "min", "c": 0, "e": 0.0, "lr": 1.0}
    plateau = eval(row.code, {**SCOPE, **letters, "h": "relative"})
    _, scales = jax.lax.scan(
        lambda state, value: plateau.update(1.0, state, value=value)[::-1],
        plateau.init(None),
        jnp.asarray(record["metrics"]["wave"], jnp.float32),
    )
    runs = record[FILES.get(library, "optax")]["scales"][f"{about}, wave"]
    expected = np.repeat(*zip(*runs, strict=True))
    np.testing.assert_allclose(scales, expected, rtol=1e-5)
