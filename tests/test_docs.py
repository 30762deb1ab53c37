"""The API pages, which are made from the package, name everything that is public."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import adaptax
from adaptax import catalog

DOCS = Path(__file__).parents[1] / "docs"
ENTRY = re.compile(r"^\.\. auto(?:function|class|data):: ([\w.]+)$", re.MULTILINE)
MODULE = re.compile(r"^\.\. automodule:: ([\w.]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def api_pages():
    spec = importlib.util.spec_from_file_location("api_pages", DOCS / "api_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(api_pages):
    return api_pages.pages()


def documented(text):
    return [path.rpartition(".")[2] for path in ENTRY.findall(text)]


@pytest.mark.parametrize(
    "module",
    [
        adaptax,
        *(adaptax.optimizers, adaptax.schedules, adaptax.controllers),
        *(adaptax.estimates, adaptax.wrappers, adaptax.tuning),
    ],
    ids=lambda module: module.__name__,
)
def test_every_public_name_is_in_the_api_pages(module, pages):
    text = "\n".join(text for name, text in pages.items() if name != "core")
    public = {
        value.__name__
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public - set(documented(text)) == set()


def test_nothing_is_documented_twice(pages):
    paths = [path for text in pages.values() for path in ENTRY.findall(text)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda entry: entry.name)
def test_a_method_stands_on_the_page_of_its_folder(entry, pages):
    module = importlib.import_module(f"adaptax.{entry.family}s.{entry.name}")
    page = pages[f"{entry.family}s"]
    names = documented(page)
    assert entry.name in names
    assert entry.direction is None or entry.direction.__name__ in names
    assert module.__name__ in MODULE.findall(page)
    states = {
        name
        for name, value in vars(module).items()
        if re.fullmatch(r"[A-Z]\w*State", name) and value.__module__ == module.__name__
    }
    assert states <= set(names)


def test_a_section_is_called_by_the_first_words_of_its_module(pages):
    for entry in catalog.ENTRIES:
        home = f"adaptax.{entry.family}s.{entry.name}"
        first = importlib.import_module(home).__doc__.split("\n")[0]
        assert ": " in first, f"{home} begins without its name"


def test_all_that_infers_its_rate_is_on_a_page_of_its_own(pages):
    for entry in catalog.ENTRIES:
        if entry.rate != "factor" or entry.family == "estimate":
            assert f"<adaptax.{entry.name}>" in pages["learning_rate_free"]


def test_every_page_is_in_the_index(pages):
    index = (DOCS / "index.md").read_text("utf-8")
    listed = re.findall(r"^api/(\w+)$", index, re.MULTILINE)
    assert sorted(listed) == sorted(pages)


def test_writing_again_removes_what_is_no_page_and_touches_no_other(
    api_pages, pages, tmp_path, monkeypatch
):
    monkeypatch.setattr(api_pages, "pages", lambda: pages)
    api_pages.write(tmp_path)
    (tmp_path / "gone.rst").write_text("of an earlier version")
    written = {page: page.stat().st_mtime_ns for page in tmp_path.glob("*.rst")}
    api_pages.write(tmp_path)
    assert {page.stem for page in tmp_path.iterdir()} == set(pages)
    for page in tmp_path.iterdir():
        assert page.stat().st_mtime_ns == written[page]


def test_an_absolute_value_is_no_substitution_of_sphinx(api_pages):
    lines = ["int | None. max |x₀ − x| Σ|g| / |Σg|:", "", "    |x|"]
    escaped = [r"int | None. max \|x₀ − x\| Σ\|g\| / \|Σg\|:", ""]
    shown = api_pages.with_mathematics(lines, of_module=True)
    assert shown == [*escaped, "::", "", "    |x|"]


def test_no_source_was_only_recalled():
    """A source was looked up, or the text says in plain words what could not be."""
    root = Path(adaptax.__file__).parent
    texts = [*root.rglob("*.py"), *DOCS.rglob("*.md"), root.parent / "README.md"]
    assert [text for text in texts if "recalled" in text.read_text("utf-8")] == []


def test_no_quoted_name_in_a_docstring_runs_into_a_word():
    """Sphinx reads "`nnx.Param`s" as a quotation that never ends."""
    root = Path(adaptax.__file__).parent
    joined = {
        str(file.relative_to(root)): found
        for file in root.rglob("*.py")
        if (found := re.findall(r"`[\w.]+`[A-Za-z]\w*", file.read_text("utf-8")))
    }
    assert joined == {}
