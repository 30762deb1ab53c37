"""A method is one file, one test file and one export: what is missing is named."""

import dataclasses
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from conformance.contracts import TESTS, contract_of

import adaptax
from adaptax import catalog

FOLDERS = [f"{family}s" for family in get_args(catalog.Family)]
FILES = [
    (folder, file.stem)
    for folder in FOLDERS
    for file in sorted((Path(adaptax.__file__).parent / folder).glob("[!_]*.py"))
]
NOT_AT_THE_TOP = {"refine"}
"""`refine` makes a schedule of another run, as the algebra does of other schedules."""


def missing(entry):
    """Say what a method lacks, and where to write it."""
    name, folder = entry.name, f"{entry.family}s"
    functions = {name: entry.factory, f"scale_by_{name}": entry.direction}
    for function, made in functions.items():
        if made is None:
            continue
        if getattr(getattr(adaptax, folder), function, None) is not made:
            line = f"from adaptax.{folder}.{name} import {function} as {function}"
            yield f"adaptax/{folder}/__init__.py: {line}"
        if getattr(adaptax, function, None) is not made and name not in NOT_AT_THE_TOP:
            line = f"from adaptax.{folder} import {function} as {function}"
            yield f"adaptax/__init__.py: {line}"
    try:
        contract_of(entry)
    except AssertionError as error:
        yield str(error)


@pytest.mark.parametrize(("folder", "name"), FILES)
def test_a_file_with_a_function_of_its_name_has_a_method(folder, name):
    module = importlib.import_module(f"adaptax.{folder}.{name}")
    if inspect.isfunction(getattr(module, name, None)):
        message = f"adaptax/{folder}/{name}.py: METHOD = Method(...) at its end"
        assert hasattr(module, "METHOD"), message


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda entry: entry.name)
def test_a_method_is_exported_and_has_a_contract(entry):
    assert list(missing(entry)) == []


def test_what_is_missing_is_said_with_its_place(monkeypatch):
    lion = catalog.find("lion", "optimizer")
    for module in (adaptax, adaptax.optimizers):
        monkeypatch.delattr(module, "scale_by_lion")
    assert list(missing(lion)) == [
        "adaptax/optimizers/__init__.py: "
        "from adaptax.optimizers.lion import scale_by_lion as scale_by_lion",
        "adaptax/__init__.py: "
        "from adaptax.optimizers import scale_by_lion as scale_by_lion",
    ]
    tiger = dataclasses.replace(lion, name="tiger", family="schedule")
    with pytest.raises(AssertionError, match=r"no tests/schedules/test_tiger\.py with"):
        contract_of(tiger)
    refused = dataclasses.replace(lion, name="equations")
    with pytest.raises(AssertionError, match=r"test_equations\.py has no CONTRACT = "):
        contract_of(refused)


def test_a_contract_belongs_to_a_method():
    known = {(f"{entry.family}s", f"test_{entry.name}") for entry in catalog.ENTRIES}
    for folder in FOLDERS:
        for file in (TESTS / folder).glob("test_*.py"):
            if re.search(r"^CONTRACT = ", file.read_text("utf-8"), re.MULTILINE):
                where = f"adaptax/{folder}/{file.stem[5:]}.py"
                assert (folder, file.stem) in known, f"{where} has no METHOD"


def test_names_of_test_files_are_unique_since_they_are_imported_by_them():
    number = Counter(file.name for file in TESTS.rglob("test_*.py"))
    assert [name for name, times in number.items() if times > 1] == []
