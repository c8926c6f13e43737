"""The page of a plan: a form that asks for one, and what a job will cost. It changes nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from api.report.pages import page, table
from api.report.plans import cells, columns, headline, remarks
from ropewalk.wire.plan import Plan

_STYLE = (
    "form { display: flex; flex-wrap: wrap; gap: 10px 18px; align-items: end; } "
    "label { display: grid; color: var(--soft); font-size: 13px; } label.tick { display: block; } "
    "input, select, button { font: inherit; padding: 4px 8px; } "
    "input { width: 17ch; } label.tick input { width: auto; } "
    "a { color: var(--finetuned); } h2, td { overflow-wrap: anywhere; }"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One field of the form, with what it holds. choices: what may be chosen; empty: any text."""

    name: str
    words: str
    value: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    is_tick: bool = False

    def html(self) -> str:
        """Its label and its control."""
        name, words, value = escape(self.name), escape(self.words), escape(self.value)
        if self.is_tick:
            ticked = " checked" if self.value else ""
            return f'<label class="tick"><input type="checkbox" name="{name}" value="yes"{ticked}> {words}</label>'
        if self.choices:
            options = "".join(
                f"<option{' selected' if one == self.value else ''}>{escape(one)}</option>" for one in self.choices
            )
            return f'<label>{words}<select name="{name}">{options}</select></label>'
        return f'<label>{words}<input name="{name}" value="{value}" placeholder="{escape(self.hint)}"></label>'


@dataclass(frozen=True, kw_only=True, slots=True)
class Back:
    """The link to where the reader came from."""

    address: str
    words: str


def plan_page(
    title: str, asked: Sequence[Asked], back: Back, *, found: Plan | None = None, problem: str | None = None
) -> str:
    """The form, and the plan where there is one, or what is wrong with what was asked for."""
    fields = "".join(field.html() for field in asked)
    parts = [
        f'<p><a href="{escape(back.address)}">{escape(back.words)}</a></p>',
        f'<section><form method="get">{fields}<button>plan</button></form></section>',
    ]
    if problem is not None:
        parts.append(f"<section><h2>This cannot be planned</h2><p>{escape(problem)}</p></section>")
    if found is not None:
        rows = (tuple(map(escape, row)) for row in cells(found))
        told = "".join(f"<p>{escape(one)}</p>" for one in remarks(found))
        parts.append(f"<section><h2>{escape(headline(found))}</h2>{table(columns(found), rows)}{told}</section>")
    return page(title, "".join(parts), style=_STYLE)
