# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _integrity as integrity
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target

TARGET = Target(integrity.FILES, "api", "api-1")
ID = "sha256:" + "a" * 64
DIGEST = "sha256:" + "d" * 64


def container(**changes: Any) -> Container:
    known: dict[str, Any] = {
        "id": "1",
        "name": "api-1",
        "service": "api",
        "number": 1,
        "state": "running",
        "image": "api:1",
        "image_id": ID,
    }
    return Container(**{**known, **changes})


def test_what_services_write_and_what_the_engine_makes_is_expected() -> None:
    raw = [
        {"Path": "/run", "Kind": 0},
        {"Path": "/run/nginx.pid", "Kind": 1},
        {"Path": "/app", "Kind": 0},
        {"Path": "/app/models", "Kind": 1},
        {"Path": "/etc", "Kind": 0},
        {"Path": "/etc/hosts", "Kind": 1},
        {"Path": "/usr/lib/python3/__pycache__", "Kind": 1},
        {"Path": "/usr/lib/python3/__pycache__/x.pyc", "Kind": 1},
        {"Path": "/usr/lib/python3", "Kind": 0},
        {"Path": "/app/own/cache", "Kind": 1},
    ]
    assert integrity.file_changes(raw, ["/app/models"], ["/app/own"]) == []


def test_what_an_attacker_leaves_is_told() -> None:
    raw = [
        {"Path": "/usr", "Kind": 0},
        {"Path": "/usr/bin", "Kind": 0},
        {"Path": "/usr/bin/miner", "Kind": 1},
        {"Path": "/app", "Kind": 0},
        {"Path": "/app/main.py", "Kind": 0},
        {"Path": "/app/license", "Kind": 2},
        {"Path": "/app/own2/x", "Kind": 1},
    ]
    changes = integrity.file_changes(raw, [], ["/app/own"])
    assert [one.text for one in changes] == [
        "added /usr/bin/miner",
        "changed /app/main.py",
        "deleted /app/license",
        "added /app/own2/x",
    ]
    found = integrity.files_measurement(TARGET, changes)
    assert (found.status, found.value) == ("critical", 4)
    assert str(found.message).startswith("added /usr/bin/miner; ")
    assert integrity.files_measurement(TARGET, changes[1:]).status == "warning"
    assert integrity.files_measurement(TARGET, []).status == "ok"


@pytest.mark.parametrize(
    ("service", "image", "status"),
    [
        (ComposeService("api", "api:1", ID), {"RepoDigests": []}, "ok"),
        (ComposeService("api", "api:1", ID), None, "warning"),
        (ComposeService("api", "api:1", "sha256:" + "b" * 64), {"RepoDigests": []}, "critical"),
        (ComposeService("api", "api:2", ID), {"RepoDigests": []}, "critical"),
        (ComposeService("api", f"api:1@{DIGEST}", ""), {"RepoDigests": ["api@" + DIGEST]}, "ok"),
        (
            ComposeService("api", f"api:1@{DIGEST}", ""),
            {"RepoDigests": ["api@sha256:1"]},
            "critical",
        ),
        (None, {"RepoDigests": ["api@" + DIGEST]}, "ok"),
    ],
)
def test_images(service: ComposeService | None, image: Any, status: str) -> None:
    reference = service.image if service is not None and "@" in service.image else "api:1"
    found = integrity.image_integrity(TARGET, service, container(image=reference), image)
    assert found.status == status


def test_the_databases_records() -> None:
    assert integrity.catalogs_measurement(TARGET, {"a": 0, "b": 0}).message == "2 checks passed"
    assert integrity.catalogs_measurement(TARGET, {"bad rows": 2}).status == "critical"
    assert integrity.checksums_measurement(TARGET, 0, False).status == "skipped"
    assert integrity.checksums_measurement(TARGET, None, True).status == "skipped"
    assert integrity.checksums_measurement(TARGET, 3, True).value == 3
    assert integrity.superusers_measurement(TARGET, ["p"], ["p"]).status == "ok"
    strange = integrity.superusers_measurement(TARGET, ["evil", "p"], ["p"])
    assert strange.status == "warning"
    assert "evil" in str(strange.message)
