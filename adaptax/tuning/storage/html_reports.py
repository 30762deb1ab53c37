"""Reports: a result as one HTML page, with everything in one file.

A page has the figure, as a PNG within the text, the table, how the result was made, the
code that repeats it, and the versions. It refers to no other file.
"""

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
img { max-width: 100%; }
figure { margin: 1.5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.15rem 0.8rem; border-bottom: 1px solid #ddd; }
table.facts th, table.facts td { text-align: left; font-weight: normal; }
table.facts th { color: #666; }
.scroll { overflow-x: auto; }
pre { background: #f5f5f5; padding: 0.8rem 1rem; overflow-x: auto; font-size: 0.85rem; }
"""


def page(
    title: str,
    headlines: Mapping[str, str],
    figure: "Figure",
    table: str,
    about: Mapping[str, Any],
) -> str:
    """Return a page.

    Args:
        title: The title.
        headlines: The first lines, by their titles.
        figure: The figure.
        table: A table in HTML.
        about: How the result was made; "call" is the code that repeats it, and
            "versions" has the versions by package.
    """
    facts = {name: fact for name, fact in about.items() if name not in _APART}
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(f'{name}: {line}')}</p>" for name, line in headlines.items()),
        f'<figure><img alt="{escape(title)}" src="{_png(figure)}"></figure>',
        "<h2>Table</h2>",
        f'<div class="scroll">{table}</div>',
        "<h2>How it was run</h2>",
        _facts(facts),
    ]
    if call := about.get("call"):
        code = escape(f"import adaptax\nimport jax\n\nresult = {call}\n")
        parts += ["<h2>How to repeat it</h2>", f"<pre><code>{code}</code></pre>"]
    if versions := about.get("versions"):
        parts += ["<h2>Versions</h2>", _facts(versions)]
    body = "\n".join(parts)
    return _FRAME.format(title=escape(title), style=_STYLE, body=body)


_FRAME = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>
<body>
{body}
</body>
</html>
"""

_APART = ("call", "run", "versions")


def _facts(facts: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><th>{escape(str(name).replace('_', ' '))}</th>"
        f"<td>{escape(_shown(fact))}</td></tr>"
        for name, fact in facts.items()
    )
    return f'<table class="facts">{"".join(rows)}</table>'


def _shown(fact: Any) -> str:
    if isinstance(fact, float):
        return f"{fact:.4g}"
    if isinstance(fact, Mapping):
        return ", ".join(f"{name}: {_shown(one)}" for name, one in fact.items()) or "-"
    if isinstance(fact, list | tuple):
        return ", ".join(map(_shown, fact)) or "-"
    return str(fact)


def _png(figure: "Figure") -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
