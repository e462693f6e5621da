"""HTML and SVG from Python calls; whatever is not markup already is escaped, so that no file name can act."""

from html import escape
from typing import Any

CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\t\n"}


class Html(str):
    """Text that is markup."""


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """`<name ...>children</name>`; None is left out; `class_` stands for `class`, `stroke_width` for `stroke-width`."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-") if key != "viewBox" else key}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "meta", "br", "col"):
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{join(*children)}</{name}>")


def join(*children: Any) -> Html:
    """Children in a row; lists are laid flat, None is left out, plain text escaped."""
    out = []
    for child in children:
        if isinstance(child, Html):
            out.append(child)
        elif isinstance(child, list | tuple):
            out.append(join(*child))
        elif child is not None:
            out.append(Html(escape(str(child).translate(CONTROL))))
    return Html("".join(out))


def _number(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
