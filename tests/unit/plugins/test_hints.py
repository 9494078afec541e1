# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What messages tell people to run has to be there: its variables and its playbooks."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TEXTS = sorted(
    path
    for pattern in ("plugins/**/*.py", "roles/*/tasks/*.yml", "roles/*/vars/*.yml")
    for path in ROOT.glob(pattern)
)
#: Read by playbooks alone, each of which says so in its header.
OF_PLAYBOOKS = {
    *("addresses", "allow", "block", "confirm", "credentials", "evidence", "for", "history_limit"),
    *("incident", "isolate", "maintenance", "pynomaly_takeover", "reason"),
}


@functools.cache
def known_variables() -> set[str]:
    found = set(OF_PLAYBOOKS)
    for path in ROOT.glob("roles/*/defaults/main.yml"):
        found.update(yaml.safe_load(path.read_text()) or {})
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found.update(entry.get("options") or {})
    return found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_to_be_run_next_is_there(path: Path) -> None:
    text = path.read_text()
    variables = set(re.findall(r"-e ([a-z][a-z0-9_]*)=", text))
    assert variables - known_variables() == set()
    playbooks = set(re.findall(r"ansible-playbook pynomaly\.ops\.([a-z][a-z0-9_]*)", text))
    assert playbooks - {one.stem for one in ROOT.glob("playbooks/*.yml")} == set()


def test_the_variables_of_playbooks_are_in_their_headers() -> None:
    headers = " ".join(path.read_text() for path in ROOT.glob("playbooks/*.yml"))
    assert {one for one in OF_PLAYBOOKS if not re.search(rf"\b{one}\b", headers)} == set()
