"""A plain rendition of HTML, to show to a person and to compare UIDs with the plain text. Pure and linear."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"\s*(/?)\s*([a-z0-9]+|!--)", re.IGNORECASE)
_BLOCKS = {"address", "blockquote", "br", "center", "div", "dl", "dt", "dd", "form", "h1", "h2", "h3", "h4", "h5", "h6",
           "hr", "li", "ol", "p", "pre", "table", "tr", "ul"}  # fmt: skip
_HIDDEN = {"script", "style", "head", "title"}


def html_to_text(source: str) -> str:
    """Text of an HTML page, a line per block; lines inside a blockquote begin with `> ` as in a plain mail."""
    lines: list[str] = []
    line: list[str] = []
    depth = 0
    hidden = ""

    def end_line() -> None:
        text = " ".join(html.unescape("".join(line)).split())
        line.clear()
        if text or (lines and lines[-1]):
            lines.append("> " * min(depth, 10) + text if text else "")

    first, *chunks = source.split("<")
    line.append(first)
    for chunk in chunks:
        tag = _TAG.match(chunk[:80])
        inside, closed, text = chunk.partition(">")
        if not tag or not closed:
            line.append("" if hidden else "<" + chunk)
            continue
        closing, name = bool(tag[1]), tag[2].lower()
        if hidden:
            hidden = "" if closing and name == hidden else hidden
        elif name in _HIDDEN and not closing and not inside.endswith("/"):
            hidden = name
        if name in _BLOCKS and not hidden:
            end_line()
            if name == "blockquote":
                depth = max(depth - 1, 0) if closing else depth + 1
        if not hidden:
            line.append(text)
    end_line()
    return "\n".join(lines).strip()
