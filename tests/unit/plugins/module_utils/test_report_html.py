# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML page: whole, closed to the outside, readable by everybody."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Optional

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._report_html import (
    PALETTE,
    Markup,
    element,
    render_html,
    style_sheet,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import SYMBOLS
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    COMMAND,
    HOSTILE,
    sample,
)

VOID = {"meta", "link", "col", "br"}


class Page(HTMLParser):
    """Checks that elements nest, and collects what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Optional[str]]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def attributes(self, name: str) -> list[str]:
        return [value for _tag, attributes in self.tags if (value := attributes.get(name))]

    @property
    def text(self) -> str:
        return " ".join(
            part for tag, parts in self.texts.items() if tag != "style" for part in parts
        )


ALL = ("healthy", "troubled", "hostile", "incident", "unreachable", "failed", "missing")


@pytest.mark.parametrize("names", [("healthy",), ("troubled",), ("hostile",), ("incident",), ALL])
def test_the_page_is_well_formed_and_alone(names: tuple[str, ...]) -> None:
    text = render_html(sample(*names))
    page = Page(text)
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert {tag for tag, _attributes in page.tags} <= {
        *("html", "head", "meta", "link", "title", "style", "body", "header", "main", "footer"),
        *("section", "h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "dl", "dt", "dd", "div"),
        *("span", "b", "bdi", "code", "a", "details", "summary", "table", "colgroup", "col"),
        *("thead", "tbody", "tr", "th", "td"),
    }
    assert not {name for _tag, held in page.tags for name in held if name.startswith("on")}
    assert page.attributes("src") == []
    for address in page.attributes("href"):
        assert re.match(r"(https?://|mailto:|tel:|data:,$)", address), address
    assert "url(" not in style_sheet()
    assert "@import" not in style_sheet()
    policy = {held.get("http-equiv"): held.get("content") for _tag, held in page.tags}
    assert "default-src 'none'" in (policy["Content-Security-Policy"] or "")


def test_hostile_text_is_text() -> None:
    text = render_html(sample("hostile"))
    page = Page(text)
    assert text.count("<script") == 0
    assert text.count("</style") == 1
    assert text.count("</title") == 1
    assert "<script>alert(1)</script></style></title><img" in page.text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202etxt.exe" in page.text
    assert HOSTILE.split("\r\n")[1].split("\t")[0] in page.text
    text.encode("utf-8")


def test_elements_escape_what_they_hold() -> None:
    assert element("p", "a <b> & ", Markup("<i>x</i>"), None, " c") == (
        "<p>a &lt;b&gt; &amp; <i>x</i> c</p>"
    )
    assert element("a", "x", href='"><script>', class_="k", aria_hidden=None) == (
        '<a href="&quot;&gt;&lt;script&gt;" class="k">x</a>'
    )
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_the_summary_is_first_then_trouble_then_people_then_everything() -> None:
    text = render_html(sample("healthy", "troubled"))
    order = [
        "<h1>",
        "What is wrong",
        "connection to 172.19.0.3 port 5432 refused",
        "Whom to call",
        "Accepted for now",
        "Hosts and all checks",
        'aria-label="All checks of troubled"',
        'aria-label="All checks of healthy"',
        "<footer>",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_every_result_and_every_hint_is_there() -> None:
    report = sample("healthy", "troubled", "unreachable", "failed")
    page = Page(render_html(report))
    rows = [held for tag, held in page.tags if tag == "td"]
    assert len(rows) == 3 * sum(len(entry["results"]) for entry in report["hosts"])
    for entry in report["hosts"]:
        for result in entry["results"]:
            assert result["message"] in page.text
            assert result["hint"] in page.text


def test_tables_have_every_cell_under_its_column() -> None:
    text = render_html(sample("incident"))
    page = Page(text)
    assert "<h4><bdi>Blocked addresses</bdi></h4><table" in text
    assert '<th scope="col" role="columnheader" class="number">Packets</th>' in text
    assert '<td role="cell" class="number" data-column="Packets"><bdi>54321</bdi></td>' in text
    assert COMMAND in page.texts["code"]
    assert '<h4><bdi>Open temporary states</bdi></h4><p class="muted">None.</p>' in text
    report = sample("incident")
    report["hosts"][0]["tables"][0]["rows"] = [["10.0.0.1/32", n] for n in range(3000)]
    assert "<bdi>2999</bdi>" in render_html(report)


def test_a_status_is_a_sign_and_a_word() -> None:
    text = render_html(sample("troubled"))
    for status, sign in SYMBOLS.items():
        assert re.search(rf'aria-hidden="true">{re.escape(sign)}</span> (\d+ )?{status}', text)
    assert "<title>CRITICAL: Daily check, 2026-11-24 02:57:03 UTC</title>" in text


def test_people_are_called_for_a_critical_only() -> None:
    text = render_html(sample("troubled"))
    assert '<a href="tel:+15550100">+1 555 0100</a>' in text
    assert '<a href="mailto:ops@pynomaly.com">ops@pynomaly.com</a>' in text
    assert 'href="https://status.pynomaly.com"' in text
    assert "Level 4" in text
    assert "Whom to call" not in render_html(sample("healthy"))
    assert "Whom to call" not in render_html(sample("troubled", contacts=[], escalation=[]))


def test_a_link_that_is_no_page_is_text() -> None:
    links = [{"title": "Click", "url": "javascript:alert(1)"}]
    page = Page(render_html(sample("healthy", links=links)))
    assert "Click" in page.text
    assert not [address for address in page.attributes("href") if "javascript" in address]


def test_headings_do_not_skip_a_level() -> None:
    levels = [int(tag[1]) for tag, _ in Page(render_html(sample(*ALL))).tags if tag in HEADINGS]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


HEADINGS = {"h1", "h2", "h3", "h4"}


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of #rrggbb."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_level_aa(scheme: str) -> None:
    colours = PALETTE[scheme]
    grounds = {name: value for name, value in colours.items() if name.endswith("ground")}
    pairs = [
        (text, ground)
        for text in ("text", "muted", "link")
        for ground in ("ground", "card", *grounds)
    ]
    for status in SYMBOLS:
        pairs += [(f"{status}-text", ground) for ground in (f"{status}-ground", "ground", "card")]
    for text, ground in pairs:
        ratio = contrast(colours[text], colours[ground])
        assert ratio >= 4.5, f"{scheme}: {text} on {ground} has {ratio:.2f}"


def test_no_colour_stands_outside_the_palette() -> None:
    used = set(re.findall(r"#[0-9a-f]{6}", style_sheet()))
    known = {colour for scheme in PALETTE.values() for colour in scheme.values()}
    assert used - known <= {"#000000", "#333333"}
    assert set(PALETTE["light"]) == set(PALETTE["dark"])
