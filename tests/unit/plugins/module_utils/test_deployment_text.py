# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pynomaly.ops.plugins.filter.deployment_record import deployment_record
from ansible_collections.pynomaly.ops.plugins.module_utils._deployment_text import (
    Deployment,
    summary,
    undo,
)


def actions(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """As the module gives them, of Compose 2.26."""
    return [{"what": "container", "id": name, "status": status} for name, status in pairs]


def deployment(**fields: Any) -> Deployment:
    return Deployment("pynomaly", "/opt/pynomaly", "node1", **fields)


def test_each_service_is_told_once_by_what_became_of_it() -> None:
    done = deployment(
        actions=[
            {"what": "network", "id": "pynomaly_back", "status": "Creating"},
            *actions(
                ("pynomaly-pynomaly-api-1", "Recreate"),
                ("pynomaly-pynomaly-api-2", "Creating"),
                ("pynomaly-pynomaly-api-1", "Starting"),
                ("pynomaly-grafana-1", "Creating"),
                ("pynomaly-grafana-1", "Starting"),
                ("pynomaly-old-1", "Removing"),
                ("0123456789ab_pynomaly-nginx-1", "Starting"),
                ("fixed", "Starting"),
            ),
        ],
        changed_files=["compose.yaml", "config/nginx/nginx.conf"],
        reloaded=["nginx"],
    )
    assert summary(done) == (
        "recreated pynomaly-api; created grafana; removed old; started fixed, nginx; "
        "wrote compose.yaml, config/nginx/nginx.conf; reloaded nginx"
    )


def test_many_files_are_counted() -> None:
    assert summary(deployment(changed_files=list("abcdef"))) == "wrote a, b, c, d and 2 more"


def test_nothing_needs_no_undoing() -> None:
    assert summary(deployment()) == "nothing to do"
    assert undo(deployment(images_before={"api": "a:1"}, images={"api": "a:1"})) == ""


def test_the_first_deployment_is_undone_by_taking_the_containers_away() -> None:
    first = deployment(actions=actions(("pynomaly-redis-1", "Creating")))
    assert undo(first) == "docker compose --project-directory /opt/pynomaly down"


def test_images_of_before_are_named_with_their_variables() -> None:
    done = Deployment(
        "shop",
        "/opt/shop",
        "web1",
        images_before={"api": "a:1", "redis": "redis:8", "gone": "g:1"},
        images={"api": "a:2", "redis": "redis:8", "new": "n:1"},
        image_variables={"api": "api_image", "redis": "redis_image", "new": "new_image"},
        actions=actions(("shop-api-1", "Recreate")),
    )
    assert undo(done) == (
        "ansible-playbook pynomaly.ops.deploy -l web1 -e pynomaly_project_name=shop "
        "-e api_image=a:1  # with all other variables as they were before"
    )


def test_what_was_written_before_a_failure_can_be_undone() -> None:
    done = deployment(images_before={"api": "a:1"}, changed_files=["compose.yaml"])
    assert undo(done).startswith("ansible-playbook pynomaly.ops.deploy -l node1  #")


def test_the_filter_takes_what_it_knows() -> None:
    facts = {"project": "p", "project_dir": "/opt/p", "host": "h"}
    assert deployment_record(facts) == {"summary": "nothing to do", "undo": ""}
    for wrong in ({**facts, "nonsense": 1}, {"project": "p"}, "text"):
        with pytest.raises(AnsibleFilterError, match="expected a dictionary"):
            deployment_record(wrong)
