"""How the site is built: furo, MyST, autodoc, and a gallery that runs the examples."""

import ast
import os
import sys
from importlib import metadata
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

project = "adaptax"
author = "The adaptax developers"
copyright = f"2026, {author}"
release = metadata.version("adaptax")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import api_pages  # noqa: E402

api_pages.write(HERE / "api")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.py", "gallery/*.ipynb"]
suppress_warnings = ["config.cache"]  # sphinx_gallery_conf holds a function
html_theme = "furo"
html_title = project
default_role = "py:obj"  # `adam` in a docstring links where there is something to link
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
myst_heading_anchors = 2


def _smoke(gallery_conf, script_vars):
    """Run an example in its shortest form.

    It has the docstring that its --help shows, and the name of its file, which one
    starts in other processes.
    """
    tree = ast.parse(Path(script_vars["src_file"]).read_text(encoding="utf-8"))
    script_vars["example_globals"]["__doc__"] = ast.get_docstring(tree)
    script_vars["example_globals"]["__file__"] = script_vars["src_file"]
    return ["--smoke"]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d\d_",
    "reset_argv": _smoke,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
}


def _keep_mathematics(app, what, name, obj, options, lines):
    lines[:] = api_pages.with_mathematics(lines, of_module=what == "module")


def setup(app):
    app.connect("autodoc-process-docstring", _keep_mathematics)
