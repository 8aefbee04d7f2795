"""HTML and SVG elements as strings, with everything that is put into them escaped."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is markup already; all other text is escaped when it is put into an element."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return one element.

    Args:
        tag: its name.
        children: Markup as it is, anything else as escaped text.
        attributes: ``class_`` and ``stroke_width`` stand for ``class`` and ``stroke-width``; one
            that is None is left out.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{named}>{joined(*children)}</{tag}>")


def joined(*children: object) -> Markup:
    """Return children one after the other, all but Markup escaped."""
    parts = (c if isinstance(c, Markup) else escape(_text(c)) for c in children)
    return Markup("".join(parts))


def _text(value: object) -> str:
    # Two decimals are a fiftieth of a pixel; more would make the page bigger and no better.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Spell a figure for people: three digits, powers of ten where they are needed."""
    return f"{value:.3g}"
