"""Pieces of HTML from texts and numbers."""

import html
from collections.abc import Iterable, Mapping


def escape(text: object) -> str:
    """Returns the text as it is written in HTML."""
    return html.escape(str(text))


def tag(name: str, content: str, classes: Iterable[str] = (), **attributes: object) -> str:
    """Returns an element.

    Args:
      name: Name of the element.
      content: HTML.
      classes: Its classes; empty ones are left out.
      **attributes: Other attributes, as text.
    """
    given = {"class": " ".join(filter(None, classes)), **attributes}
    written = "".join(f' {key}="{escape(value)}"' for key, value in given.items() if value != "")
    return f"<{name}{written}>{content}</{name}>"


def definitions(rows: Mapping[str, str]) -> str:
    """Returns a list of headings (text) and what belongs to them (HTML)."""
    items = (f"{tag('dt', escape(key))}\n{tag('dd', value)}" for key, value in rows.items())
    return tag("dl", "\n".join(items))


def scrolling(table: str, label: str, classes: Iterable[str] = ()) -> str:
    """Returns a region of the page that scrolls a wide table, by keyboard too.

    Args:
      table: HTML.
      label: What it is, as text.
      classes: Its classes besides "scroll".
    """
    names = {"role": "region", "aria-label": label}
    return tag("div", table, ["scroll", *classes], tabindex=0, **names)


def number(value: float | None) -> str:
    """Returns a difference with two digits; nothing for None."""
    if value is None:
        return ""
    return f"{value:.1e}" if value else "0"
