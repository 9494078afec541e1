# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._metrics_text import family, labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("shop", "shop"),
        (5, "5"),
        ("", ""),
        ('a"b', r"a\"b"),
        ("a\\b", r"a\\b"),
        ("a\nb", r"a\nb"),
        ("a\\n", r"a\\n"),
        ("ü{},=", "ü{},="),
        ("a\udcffb", r"a\\udcffb"),
    ],
)
def test_a_labels_value_is_escaped(value: object, text: str) -> None:
    assert labels([("name", value)]) == f'{{name="{text}"}}'


def test_labels_keep_their_order() -> None:
    assert labels([("b", 1), ("a", 2)]) == '{b="1",a="2"}'
    assert labels([]) == "{}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.0, "3"),
        (-2.5, "-2.5"),
        (1795489200.123, "1795489200.123"),
        (1e17, "100000000000000000"),
        (1e-9, "1e-09"),
        (float("nan"), "NaN"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
    ],
)
def test_a_samples_value(value: float, text: str) -> None:
    assert family("f", "Help.", {"{}": value})[-1] == f"f{{}} {text}"


def test_a_family_has_its_help_and_type_once() -> None:
    assert family("f_bytes", "How many.", {'{a="1"}': 1, '{a="2"}': 2.5}) == [
        "# HELP f_bytes How many.",
        "# TYPE f_bytes gauge",
        'f_bytes{a="1"} 1',
        'f_bytes{a="2"} 2.5',
    ]


def test_a_family_without_samples_is_not_there() -> None:
    assert family("f", "Help.", {}) == []
