# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.filter.status_table import FilterModule, status_table
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._status import stack_status

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)


def test_a_status_becomes_lines() -> None:
    lines = FilterModule().filters()["status_table"](stack_status(Stack("p"), "26.1.5", NOW))
    assert lines[0] == "Project p on Docker 26.1.5: no container of it was seen"


@pytest.mark.parametrize("wrong", [None, [], "text", {"project": "p"}])
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(AnsibleFilterError, match="expected status of what"):
        status_table(wrong)
