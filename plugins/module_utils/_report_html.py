# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report as one HTML page: nothing is loaded, nothing runs, it fits a phone and a sheet of A4.

A status is always a sign and a word, never a colour alone. Text is escaped where it becomes an
element (L{element}), so that nothing from a log or a container can become markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report import (
    component,
    headline,
    hosts_worst_first,
    problems,
    waived,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    CODE_COLUMNS,
    SPOKEN_ORDER,
    SYMBOLS,
    cell_text,
    detail_lines,
    fact_lines,
    format_counts,
    format_measured,
    format_seconds,
    format_time,
    is_number_column,
    place,
    plural,
    printable,
)

#: Colours by scheme and use. Each pair of text and ground has at least the contrast that WCAG 2
#: asks for at level AA (4.5 to 1); the unit tests compute it.
PALETTE: Mapping[str, Mapping[str, str]] = {
    "light": {
        "ground": "#ffffff",
        "card": "#f6f8fa",
        "text": "#1b1f24",
        "muted": "#57606a",
        "line": "#d0d7de",
        "link": "#0550ae",
        f"{CRITICAL}-text": "#a40e26",
        f"{CRITICAL}-ground": "#ffebe9",
        f"{WARNING}-text": "#7a4b00",
        f"{WARNING}-ground": "#fff3c4",
        f"{UNKNOWN}-text": "#5a32a3",
        f"{UNKNOWN}-ground": "#f3eefe",
        f"{OK}-text": "#116329",
        f"{OK}-ground": "#ddf7e3",
        f"{SKIPPED}-text": "#4b535c",
        f"{SKIPPED}-ground": "#eceff2",
    },
    "dark": {
        "ground": "#0d1117",
        "card": "#161b22",
        "text": "#e6edf3",
        "muted": "#9da7b1",
        "line": "#3d444d",
        "link": "#79c0ff",
        f"{CRITICAL}-text": "#ffb1a8",
        f"{CRITICAL}-ground": "#481519",
        f"{WARNING}-text": "#f2cc60",
        f"{WARNING}-ground": "#372b06",
        f"{UNKNOWN}-text": "#d9c2ff",
        f"{UNKNOWN}-ground": "#2b2050",
        f"{OK}-text": "#7ee787",
        f"{OK}-ground": "#0f2f19",
        f"{SKIPPED}-text": "#b1bac4",
        f"{SKIPPED}-ground": "#21262d",
    },
}

_STYLE = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;padding:0 1rem 2rem;max-width:60rem;background:var(--ground);color:var(--text);
font:1rem/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
overflow-wrap:anywhere}
h1,h2,h3,h4{line-height:1.25;margin:0;text-wrap:balance}
h2{font-size:1.25rem;margin:2rem 0 .75rem}
h3{font-size:1.05rem;margin:1.25rem 0 .5rem;display:flex;flex-wrap:wrap;gap:.25rem .6rem;
align-items:baseline}
p,ul,ol,dl,dd{margin:0}
ul,ol{padding:0;list-style:none}
a{color:var(--link)}
a[href^="tel:"]{white-space:nowrap}
code,.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.875em}
td,bdi,li,dd{unicode-bidi:isolate}
p,td,li{text-wrap:pretty}
.muted{color:var(--muted);font-size:.875rem}
.banner{margin:0 -1rem;padding:1.25rem 1rem;border-bottom:4px solid var(--tone);
background:var(--tint)}
.banner h1{font-size:1.6rem;color:var(--tone)}
.banner p{margin-top:.35rem}
.banner .lead{font-size:1.05rem;font-weight:600}
.critical{--tone:var(--critical-text);--tint:var(--critical-ground)}
.warning{--tone:var(--warning-text);--tint:var(--warning-ground)}
.unknown{--tone:var(--unknown-text);--tint:var(--unknown-ground)}
.ok{--tone:var(--ok-text);--tint:var(--ok-ground)}
.skipped{--tone:var(--skipped-text);--tint:var(--skipped-ground)}
.badge{display:inline-block;padding:.1rem .5rem;border-radius:1rem;background:var(--tint);
color:var(--tone);font-size:.8125rem;font-weight:700;white-space:nowrap}
.counts{display:flex;flex-wrap:wrap;gap:.4rem;margin-top:1rem}
.counts li{font-size:1rem}
.counts .badge{background:var(--ground)}
.counts .none{background:none;color:var(--muted);font-weight:400}
.problem{border:1px solid var(--line);border-left:5px solid var(--tone);border-radius:6px;
padding:.75rem .9rem;margin:.75rem 0;background:var(--card)}
.problem h4{font-size:1rem;margin:.4rem 0;font-weight:600}
.problem ul{margin:.4rem 0 .4rem 1.1rem;list-style:disc}
.next{margin-top:.6rem}
.next b{display:block;font-size:.8125rem;color:var(--muted)}
.next code{display:block;padding:.45rem .6rem;border-radius:4px;background:var(--ground);
border:1px solid var(--line);white-space:pre-wrap;-webkit-user-select:all;user-select:all}
.people{border:1px solid var(--line);border-radius:6px;padding:.75rem .9rem;margin-top:1.25rem}
.people h2{margin:0 0 .4rem;font-size:1rem}
.people h2:not(:first-child){margin-top:.9rem}
.people li{padding:.2rem 0}
.people b{margin-right:.4rem}
.waived li{padding:.5rem 0;border-top:1px solid var(--line)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.5rem 1rem;
margin:.5rem 0 .75rem}
.facts dt{color:var(--muted);font-size:.8125rem}
details{margin:.5rem 0}
summary{cursor:pointer;padding:.6rem .9rem;border:1px solid var(--line);border-radius:6px;
background:var(--card);font-weight:600}
summary:focus-visible,a:focus-visible{outline:3px solid var(--link);outline-offset:2px}
table{width:100%;border-collapse:collapse;font-size:.9375rem}
th{text-align:left;font-size:.8125rem;color:var(--muted);font-weight:600}
td,th{padding:.45rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td:first-child,th:first-child{padding-left:0}
tbody th{padding-top:1.1rem;font-size:.9375rem;color:var(--text);font-weight:700}
h4{font-size:1rem;margin:1.25rem 0 .4rem}
.told{margin-bottom:1rem}
.told code{-webkit-user-select:all;user-select:all}
.number{text-align:right;font-variant-numeric:tabular-nums}
col.status{width:7rem}
col.check{width:42%}
footer{margin-top:2.5rem;padding-top:1rem;border-top:1px solid var(--line)}
@media (max-width:40rem){
colgroup,thead{display:none}
table,tbody,tr,td,tbody th{display:block}
tr{padding:.6rem 0;border-bottom:1px solid var(--line)}
tr.component{border:0;padding:.9rem 0 0}
td,tbody th{border:0;padding:.1rem 0}
.told .number{text-align:left}
.told td[data-column]::before{content:attr(data-column);display:inline-block;min-width:6rem;
margin-right:.5rem;color:var(--muted);font-size:.8125rem}
}
@media screen{details:not([open])+.folded{display:none}}
@media print{
@page{size:A4;margin:14mm}
html{font-size:9.5pt}
body{max-width:none;padding:0}
.banner{margin:0;padding:0 0 .5rem}
.badge,.counts .badge,.banner,.problem,.next code,summary{background:none}
.badge{border:1px solid}
.problem,.people,tr,li,.facts div{break-inside:avoid}
h2,h3,h4,summary,tr.component{break-after:avoid}
summary{list-style:none;border:0;padding:0}
summary::-webkit-details-marker{display:none}
thead{display:table-header-group}
a.named::after{content:" (" attr(href) ")"}
}
"""

_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_VOID = ("meta", "link", "col", "br")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def _escaped(text: str) -> str:
    """Text as it is, on one line; a space at its ends is kept, since it parts it from others."""
    before = " " if text[:1] == " " else ""
    after = " " if text[-1:] == " " and text.strip() else ""
    return f"{before}{html.escape(printable(text))}{after}"


def element(tag: str, /, *children: Optional[str], **attributes: Optional[str]) -> Markup:
    """An element. Children that are no L{Markup} are text, shown as it is; C{None} is left out.

    ``class_`` is the class, an underscore in another attribute's name a hyphen.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    content = "".join(
        child if isinstance(child, Markup) else _escaped(child)
        for child in children
        if child is not None
    )
    return Markup(f"<{tag}{written}>{content}</{tag}>")


def style_sheet() -> str:
    """The page's style, with the palette's colours for both schemes; paper is always white."""

    def variables(scheme: str, **replaced: str) -> str:
        colours = {**PALETTE[scheme], **replaced}
        return "".join(f"--{name}:{colour};" for name, colour in colours.items())

    paper = {name: "#000000" for name in PALETTE["light"] if name.endswith("text")}
    return (
        f":root{{color-scheme:light dark;{variables('light')}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{variables('dark')}}}}}\n"
        f"@media print{{:root{{color-scheme:light;"
        f"{variables('light', muted='#333333', link='#000000', card='#ffffff', **paper)}}}}}"
        f"{_STYLE}"
    )


def _badge(status: str, text: Optional[str] = None) -> Markup:
    return element(
        "span",
        element("span", SYMBOLS[status], aria_hidden="true"),
        f" {text or status}",
        class_=f"badge {status}",
    )


def _linked(text: str, url: str) -> Markup:
    """A link to a page, a mailbox or a telephone; plain text for any other address."""
    if re.fullmatch(r"https?://\S+", url):
        # On paper a link's address is written out, unless it is what the link says.
        named = "named" if text != url else None
        return element("a", text, href=url, rel="noreferrer", class_=named)
    if re.fullmatch(r"[^\s@:/?#]+@[^\s@:/?#]+", url):
        return element("a", text, href=f"mailto:{url}")
    if re.fullmatch(r"\+?[0-9][0-9 ().-]{3,}", url):
        return element("a", text, href="tel:" + re.sub(r"[^0-9+]", "", url))
    return element("bdi", text)


def _described(pairs: Sequence[tuple[str, Optional[str]]]) -> Optional[Markup]:
    rows = [
        element("div", element("dt", name), element("dd", value)) for name, value in pairs if value
    ]
    return element("dl", *rows, class_="facts") if rows else None


def _banner(report: Mapping[str, Any]) -> Markup:
    status = report["status"]
    counts = [
        element(
            "li",
            element("span", SYMBOLS[each], aria_hidden="true"),
            f" {report['summary'][each]} {each}",
            class_=f"badge {each}" if report["summary"][each] else "badge none",
        )
        for each in SPOKEN_ORDER
    ]
    return element(
        "header",
        element(
            "h1",
            element("span", SYMBOLS[status], aria_hidden="true"),
            f" {report['title']}: {status}",
        ),
        element("p", f"{headline(report)}.", class_="lead"),
        element("p", f"{format_time(report['started_at'])}", class_="muted"),
        element("ul", *counts, class_="counts", aria_label="Number of results by status"),
        class_=f"banner {status}",
    )


def _people(report: Mapping[str, Any]) -> Optional[Markup]:
    parts: list[Markup] = []
    if report["contacts"]:
        parts.append(element("h2", "Whom to call"))
        rows = [
            element("li", element("b", entry["name"]), " ", _linked(address, address))
            for entry in report["contacts"]
            for address in (entry["address"],)
        ]
        parts.append(element("ul", *rows))
    if report["escalation"]:
        parts.append(element("h2", "Escalation"))
        rows = [
            element(
                "li",
                element("b", f"Level {entry['level']}"),
                " ",
                element("bdi", entry["name"]),
                " " if entry.get("address") else None,
                _linked(entry["address"], entry["address"]) if entry.get("address") else None,
            )
            for entry in report["escalation"]
        ]
        parts.append(element("ol", *rows))
    return element("section", *parts, class_="people") if parts else None


def _where(result: Mapping[str, Any]) -> Markup:
    """The probe's id and its place, in the type of code."""
    where = place(result)
    return element(
        "span",
        element("code", result["id"]),
        " on " if where else None,
        element("bdi", where) if where else None,
        class_="muted",
    )


def _problem(result: Mapping[str, Any]) -> Markup:
    """What was seen is the heading: a check's title says what should be, and would mislead."""
    details = [element("li", line) for line in detail_lines(result["detail"])]
    measured = format_measured(result)
    return element(
        "li",
        element("p", _badge(result["status"], result["status"].upper()), " ", _where(result)),
        element("h4", element("bdi", result["message"] or result["title"])),
        element("ul", *details) if details else None,
        element(
            "p", f"Check: {result['title']}{f'; {measured}' if measured else ''}", class_="muted"
        ),
        element("div", element("b", "Next"), element("code", result["hint"]), class_="next")
        if result["hint"]
        else None,
        class_=f"problem {result['status']}",
    )


def _problems(hosts: Sequence[Mapping[str, Any]]) -> Optional[Markup]:
    parts = []
    for entry in hosts:
        found = problems(entry)
        if found:
            parts.append(element("h3", element("bdi", entry["name"])))
            parts.append(element("ul", *(_problem(result) for result in found)))
    if not parts:
        return None
    return element("section", element("h2", "What is wrong"), *parts)


def _waived(hosts: Sequence[Mapping[str, Any]]) -> Optional[Markup]:
    rows = [
        element(
            "li",
            _badge(SKIPPED, f"waived {result['waiver']['status']}"),
            " ",
            element("b", result["title"]),
            " ",
            _where(result),
            f", {entry['name']}, until {result['waiver']['until']}: ",
            element("bdi", result["waiver"]["reason"]),
        )
        for entry in hosts
        for result in waived(entry)
    ]
    if not rows:
        return None
    return element(
        "section", element("h2", "Accepted for now"), element("ul", *rows, class_="waived")
    )


def _row(result: Mapping[str, Any]) -> Markup:
    measured = format_measured(result)
    message = result["message"]
    return element(
        "tr",
        element("td", _badge(result["status"]), role="cell"),
        element("td", element("div", result["title"]), element("div", _where(result)), role="cell"),
        element(
            "td",
            element("div", element("bdi", message)) if message else None,
            element("div", measured, class_="muted") if measured else None,
            role="cell",
        ),
        role="row",
    )


def _table(entry: Mapping[str, Any]) -> Markup:
    """All results of a host. The roles keep it a table for a screen reader where the phone's
    style stops showing it as one."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in entry["results"]:
        groups.setdefault(component(result["id"]), []).append(result)
    bodies = [
        element(
            "tbody",
            element(
                "tr",
                element("th", name, colspan="3", scope="rowgroup", role="rowheader"),
                class_="component",
                role="row",
            ),
            *(_row(result) for result in results),
            role="rowgroup",
        )
        for name, results in groups.items()
    ]
    heads = [
        element("th", text, scope="col", role="columnheader")
        for text in ("Status", "Check", "Seen")
    ]
    return element(
        "table",
        element(
            "colgroup",
            element("col", class_="status"),
            element("col", class_="check"),
            element("col"),
        ),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        *bodies,
        role="table",
        aria_label=f"All checks of {entry['name']}",
    )


def _told(entry: Mapping[str, Any], table: Mapping[str, Any]) -> list[Markup]:
    """A table that the run has to tell, under its title. On a phone each cell has its column's name
    before it."""
    heading = element("h4", element("bdi", table["title"]))
    if not table["rows"]:
        return [heading, element("p", "None.", class_="muted")]
    columns = table["columns"]
    numbers = [is_number_column(table, index) for index in range(len(columns))]

    def cell(index: int, value: Any) -> Markup:
        text = cell_text(value)
        inner = element("code" if columns[index] in CODE_COLUMNS else "bdi", text)
        return element(
            "td",
            inner if text else None,
            role="cell",
            class_="number" if numbers[index] else None,
            data_column=columns[index] if text else None,
        )

    heads = [
        element("th", name, scope="col", role="columnheader", class_="number" if number else None)
        for name, number in zip(columns, numbers)
    ]
    rows = [
        element("tr", *(cell(index, value) for index, value in enumerate(row)), role="row")
        for row in table["rows"]
    ]
    return [
        heading,
        element(
            "table",
            element("thead", element("tr", *heads, role="row"), role="rowgroup"),
            element("tbody", *rows, role="rowgroup"),
            class_="told",
            role="table",
            aria_label=f"{table['title']} of {entry['name']}",
        ),
    ]


def _host(entry: Mapping[str, Any]) -> Markup:
    pairs: list[tuple[str, Optional[str]]] = [
        ("Project", entry["project"]),
        ("Folder", entry["working_dir"]),
        ("Address", entry["address"]),
        *fact_lines(entry["facts"]),
    ]
    if entry["duration_ms"]:
        pairs.append(("Check took", format_seconds(entry["duration_ms"] / 1000)))
    counted = plural(len(entry["results"]), "check")
    return element(
        "section",
        element("h3", element("bdi", entry["name"]), " ", _badge(entry["status"])),
        _described(pairs),
        *(part for table in entry["tables"] for part in _told(entry, table)),
        # The table follows its switch, instead of lying in it, because a closed one is not printed.
        element("details", element("summary", f"{counted}: {format_counts(entry['summary'])}")),
        element("div", _table(entry), class_="folded"),
    )


def _footer(report: Mapping[str, Any]) -> Markup:
    links = [element("li", _linked(link["title"], link["url"])) for link in report["links"]]
    return element(
        "footer",
        element("h2", "Links") if links else None,
        element("ul", *links) if links else None,
        _described(
            [
                ("Began", format_time(report["started_at"])),
                ("Took", format_seconds(report["duration_ms"] / 1000)),
                ("Run by", report["user"]),
                ("On", report["controller"]),
                ("Run", report["run_id"]),
                ("Fails on", report["fail_on"]),
                ("Collection", f"pynomaly.ops {report['collection_version']}".strip()),
                ("Schema", report["schema_version"]),
            ]
        ),
    )


def render_html(report: Mapping[str, Any]) -> str:
    """The whole report as one page."""
    hosts = hosts_worst_first(report)
    title = f"{report['status'].upper()}: {report['title']}, {format_time(report['started_at'])}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_CONTENT_SECURITY_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="robots", content="noindex"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(style_sheet())),
    )
    body = element(
        "body",
        _banner(report),
        element(
            "main",
            _problems(hosts),
            _people(report) if report["status"] == CRITICAL else None,
            _waived(hosts),
            element("h2", "Hosts and all checks"),
            *(_host(entry) for entry in hosts),
        ),
        _footer(report),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"
