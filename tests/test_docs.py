"""The API pages name everything that is public."""

import inspect
import re
from pathlib import Path

import pytest

import adaptax

PAGES = Path(__file__).parents[1] / "docs" / "api"
ENTRY = re.compile(
    r"^\.\. auto(?:function|class|data):: adaptax\.([\w.]+)$", re.MULTILINE
)


@pytest.mark.parametrize("module", [adaptax, adaptax.schedules])
def test_every_public_name_is_in_the_api_pages(module):
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.rst"))
    documented = {entry.rpartition(".")[2] for entry in ENTRY.findall(text)}
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public - documented == set()


def test_no_source_was_only_recalled():
    """A source was looked up, or the text says in plain words what could not be."""
    root = Path(adaptax.__file__).parent
    texts = [
        *root.rglob("*.py"),
        *PAGES.parent.rglob("*.md"),
        root.parent / "README.md",
    ]
    assert [text for text in texts if "recalled" in text.read_text("utf-8")] == []
