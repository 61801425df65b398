"""Pieces of HTML that every section is made of."""

from keras_optlab.report.text import escape


def section(anchor: str, title: str, body: str, lead: str = "") -> str:
    """A titled part of the page; nothing where `body` is empty. `body` and `lead` are HTML."""
    told = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{told}{body}</section>' if body else ""


def code(source: str | None, label: str, length: int = 12000) -> str:
    """Program text as a block; the page's script adds a copy button."""
    return f'<div class="code"><pre tabindex="0" aria-label="{escape(label)}"><code>{escape(source, length)}</code></pre></div>' if source else ""


def facts(pairs: list[tuple[str, str]]) -> str:
    """Names and values, both HTML, as a definition list."""
    return '<dl class="facts">' + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs) + "</dl>" if pairs else ""


def table(heads: list[tuple[str, str]], rows: list[str], kind: str = "") -> str:
    """Rows of HTML under (class, title) heads, in a box that scrolls sideways on narrow screens."""
    cells = "".join(f'<th scope="col" class="{style}">{escape(title, 40)}</th>' for style, title in heads)
    box = "wide tall" if len(rows) > 25 else "wide"
    body = f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="{box}" role="region" aria-label="Table" tabindex="0"><table class="{kind}">{body}</table></div>' if rows else ""


def columns(*figures: str) -> str:
    """Figures side by side where there is room."""
    drawn = [figure for figure in figures if figure]
    kind = "columns three" if len(drawn) % 3 == 0 else "columns"
    return f'<div class="{kind}">{"".join(drawn)}</div>' if len(drawn) > 1 else "".join(drawn)


def slices(title: str, figures: list[str], lead: str = "") -> str:
    """Small figures under a heading, as many side by side as there is room for. `lead` is HTML."""
    drawn = "".join(figures)
    return f'<h3>{escape(title)}</h3><p class="note">{lead}</p><div class="slices">{drawn}</div>' if drawn else ""


def fold(title: str, body: str) -> str:
    """A part that opens on request."""
    return f"<details><summary>{escape(title, 120)}</summary>{body}</details>" if body else ""
