# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    Container,
    PublishedPort,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    endpoints,
    first_running,
    is_address,
    is_loopback,
    named,
    place,
)


def container(number: int = 1, state: str = "running", **changes: Any) -> Container:
    return Container(
        f"{number:064d}", f"p-db-{number}", "db", number, state, "image", "sha256:0", **changes
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"addresses": ("10.0.0.2", "10.0.1.2")}, (("10.0.0.2", 5432), ("10.0.1.2", 5432))),
        ({"networks": {"host": ""}}, (("127.0.0.1", 5432),)),
        (
            {
                "addresses": ("10.0.0.2",),
                "ports": (
                    PublishedPort(5432, "0.0.0.0", 15432),
                    PublishedPort(5432, "::", 15432),
                    PublishedPort(9187, "0.0.0.0", 9187),
                    PublishedPort(5432, "192.0.2.1", 5432),
                ),
            },
            (("10.0.0.2", 5432), ("127.0.0.1", 15432), ("::1", 15432), ("192.0.2.1", 5432)),
        ),
    ],
)
def test_endpoints(changes: dict[str, Any], expected: tuple[tuple[str, int], ...]) -> None:
    assert endpoints(container(**changes), 5432) == expected


def test_names_of_services_and_containers_running_ones_first() -> None:
    stopped, first, second = container(1, "exited"), container(2), container(3)
    stack = Stack("p", containers={"db": (stopped, second, first)})
    assert list(named(stack, "db")) == [first, second, stopped]
    assert list(named(stack, "p-db-1")) == [stopped]
    assert list(named(stack, "elsewhere")) == []
    assert first_running((stopped, second, first)) is first
    assert first_running((stopped,)) is None


@pytest.mark.parametrize(
    ("host", "address", "loopback"),
    [
        ("localhost", False, True),
        ("127.0.0.5", True, True),
        ("::1", True, True),
        ("10.0.0.1", True, False),
        ("postgres", False, False),
    ],
)
def test_addresses(host: str, address: bool, loopback: bool) -> None:
    assert is_address(host) is address
    assert is_loopback(host) is loopback


def test_place() -> None:
    assert place(("10.0.0.1", 1)) == "10.0.0.1:1"
    assert place(("::1", 1)) == "[::1]:1"
