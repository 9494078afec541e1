# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML page in a real browser: on a phone, on a desk, on paper.

Needs ``chromium`` and ``pdftotext`` (Debian packages chromium and poppler-utils).
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._report_html import render_html
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import printable
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    sample,
)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=2000", "--hide-scrollbars"),
)

#: Looks at the page from outside, in a frame as wide as the device: the page's own policy forbids
#: scripts in it, and a window cannot be as narrow as a phone.
LOOK = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe style="border:0;width:WIDTHpx;height:800px" srcdoc="PAGE"></iframe>
<script>
onload = () => {
  const view = document.querySelector('iframe').contentWindow
  const page = view.document
  const shown = element => element.getClientRects().length > 0
  const wide = [...page.body.querySelectorAll('*')].filter(shown).filter(
    element => element.getBoundingClientRect().right > view.innerWidth + 0.5)
  const seen = {
    width: view.innerWidth,
    scroll_width: page.documentElement.scrollWidth,
    too_wide: wide.map(element => element.tagName + '.' + element.className),
    alerts: view.alerted || 0,
    loaded: view.performance.getEntriesByType('resource').map(entry => entry.name),
    rows_shown: [...page.querySelectorAll('td')].filter(shown).length,
    hints_shown: [...page.querySelectorAll('.next code')].filter(shown).length,
    small: [...page.querySelectorAll('a,summary')].filter(shown).filter(
      element => element.getBoundingClientRect().height < 18).length,
    ground: view.getComputedStyle(page.body).backgroundColor,
  }
  document.body.innerHTML = ''
  const result = document.createElement('pre')
  result.textContent = JSON.stringify(seen)
  document.body.append(result)
}
</script>
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt-get install chromium poppler-utils"
    return found


def chromium(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [tool("chromium"), *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def look(folder: Path, page: str, width: int, *flags: str) -> dict[str, Any]:
    path = folder / "look.html"
    text = LOOK.replace("WIDTH", str(width)).replace("PAGE", html.escape(page))
    path.write_text(text, encoding="utf-8")
    dumped = chromium(folder, *flags, "--window-size=1400,1000", "--dump-dom", path.as_uri())
    found = re.search(r"<pre>(.*)</pre>", dumped, re.DOTALL)
    assert found, dumped[-500:]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    assert seen["width"] == width
    return seen


def opened(page: str) -> str:
    """The page with every list of checks unfolded."""
    return page.replace("<details>", "<details open>")


NAMES = ("healthy", "troubled", "hostile", "incident", "unreachable", "failed")


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    seen = look(tmp_path, opened(render_html(sample(*NAMES))), width)
    assert seen["too_wide"] == []
    assert seen["scroll_width"] <= width


def test_the_measure_sees_what_is_too_wide(tmp_path: Path) -> None:
    page = render_html(sample("healthy")).replace("<main>", '<main><p style="width:500px">x</p>')
    seen = look(tmp_path, page, 360)
    assert seen["scroll_width"] > 360
    assert "P." in seen["too_wide"]


def test_checks_are_folded_on_a_screen_and_hints_are_not(tmp_path: Path) -> None:
    report = sample("healthy", "troubled")
    page = render_html(report)
    hints = sum(bool(result["hint"]) for e in report["hosts"] for result in e["results"])
    folded = look(tmp_path, page, 360)
    assert (folded["rows_shown"], folded["hints_shown"]) == (0, hints)
    unfolded = look(tmp_path, opened(page), 360)
    assert unfolded["rows_shown"] == 3 * sum(len(e["results"]) for e in report["hosts"])
    assert unfolded["small"] == 0


def test_hostile_text_runs_nothing_and_nothing_is_loaded(tmp_path: Path) -> None:
    spy = "<script>alert = () => { window.alerted = (window.alerted || 0) + 1 }</script>"
    page = render_html(sample("hostile"))
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', spy, page)
    assert spy in bare
    seen = look(tmp_path, opened(bare), 360)
    assert (seen["alerts"], seen["loaded"]) == (0, [])
    proof = bare.replace("<main>", "<main><img src=x onerror=alert(1)>")
    assert look(tmp_path, proof, 360)["alerts"] == 1


def test_the_scheme_follows_the_device(tmp_path: Path) -> None:
    page = render_html(sample("healthy"))
    light = look(tmp_path, page, 360, "--blink-settings=preferredColorScheme=1")
    dark = look(tmp_path, page, 360, "--blink-settings=preferredColorScheme=0")
    assert light["ground"] == "rgb(255, 255, 255)"
    assert dark["ground"] == "rgb(13, 17, 23)"


def printed(folder: Path, page: str) -> str:
    """The text of the page on paper, in lines as they are printed."""
    source, target = folder / "page.html", folder / "page.pdf"
    source.write_text(page, encoding="utf-8")
    chromium(folder, "--no-pdf-header-footer", f"--print-to-pdf={target}", source.as_uri())
    done = subprocess.run(
        [tool("pdftotext"), "-raw", str(target), "-"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def squeezed(text: str) -> str:
    """Without spaces, since a printed line may break anywhere, and with ligatures undone."""
    for ligature, letters in (
        ("\ufb00", "ff"),
        ("\ufb01", "fi"),
        ("\ufb02", "fl"),
        ("\ufb03", "ffi"),
    ):
        text = text.replace(ligature, letters)
    return re.sub(r"\s+", "", text)


def test_paper_shows_every_result_hint_and_link(tmp_path: Path) -> None:
    report = sample("healthy", "troubled", "unreachable")
    text = squeezed(printed(tmp_path, render_html(report)))
    for entry in report["hosts"]:
        assert squeezed(entry["name"]) in text
        for result in entry["results"]:
            for part in (result["title"], result["message"], result["hint"], result["id"]):
                assert squeezed(printable(part)) in text, part
    assert text.count("docker.engineondocker") == 2
    assert "Maindashboard(http://grafana.example.org:3000/d/pynomaly-main)" in text
    assert "\u2715CRITICAL" in text


def test_no_row_or_problem_is_parted_by_the_end_of_a_page(tmp_path: Path) -> None:
    report = sample("troubled", "healthy")
    pages = printed(tmp_path, render_html(report)).rstrip("\f\n").split("\f")
    assert len(pages) > 2
    squeezed_pages = [squeezed(page) for page in pages]
    for entry in report["hosts"]:
        for result in entry["results"]:
            row = squeezed(f"{result['status']}{result['title']}{result['id']}")
            assert any(row in page for page in squeezed_pages), row
            if result["hint"]:
                assert any(
                    squeezed(result["message"]) in page
                    and squeezed(f"Next{result['hint']}") in page
                    for page in squeezed_pages
                )
    assert all(len(page.strip()) > 0 for page in pages)
