# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics for node_exporter's textfile collector."""

from __future__ import annotations

import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._report_textfile import (
    render_textfile,
)
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    HOSTILE,
    healthy,
    hostile,
    probe_result,
    registered,
    sample,
    troubled,
)

SAMPLE = re.compile(
    r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\} (-?[0-9.e+-]+|NaN|[+-]Inf)'
)
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of a text in the Prometheus format, which must be nothing else."""
    assert text.endswith("\n")
    samples = {}
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) pynomaly_[a-z_]+ .+", line)
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line[:200]
        labels = tuple(
            (
                name,
                re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value),
            )
            for name, value in LABEL.findall(match[2])
        )
        key = (match[1], labels)
        assert key not in samples
        samples[key] = float(match[3])
    return samples


def of(probe: str, service: str, instance: str = "") -> tuple[tuple[str, str], ...]:
    return (
        ("project", "pynomaly"),
        ("probe", probe),
        ("service", service),
        ("probe_instance", instance),
    )


def test_statuses_values_and_the_check_itself() -> None:
    samples = parsed(render_textfile(troubled()))
    status = "pynomaly_probe_status"
    assert samples[(status, of("host.disk", "host", "/var/lib/docker"))] == 2
    assert samples[(status, of("tls.served", "nginx", "nginx:443"))] == 1
    assert samples[(status, of("redis.memory", "redis-cluster"))] == 3
    assert samples[(status, of("redis.ping", "redis-cluster"))] == 0
    assert samples[(status, of("host.swap", "host"))] == -1
    assert samples[(status, of("logs.errors", "prometheus"))] == -1
    disk = (*of("host.disk", "host", "/var/lib/docker"), ("unit", "percent"))
    assert samples[("pynomaly_probe_value", disk)] == 97.1
    project = (("project", "pynomaly"),)
    assert samples[("pynomaly_check_status", project)] == 2
    assert samples[("pynomaly_check_timestamp_seconds", project)] == 1795489024
    assert samples[("pynomaly_check_duration_seconds", project)] == 1.3124


def test_each_family_is_described_once_before_its_samples() -> None:
    lines = render_textfile(healthy()).splitlines()
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    types = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
    assert helps == [name for name, _kind in types]
    assert len(set(helps)) == len(helps) == 5
    families = [line.split("{")[0] for line in lines if not line.startswith("#")]
    assert list(dict.fromkeys(families)) == helps


def test_a_report_entry_makes_the_same_metrics_as_the_module() -> None:
    assert render_textfile(sample("troubled")["hosts"][0]) == render_textfile(troubled())


def test_hostile_labels_are_escaped_and_come_back() -> None:
    samples = parsed(render_textfile(hostile()))
    assert any(dict(labels).get("probe_instance") == HOSTILE for _name, labels in samples)


def test_of_two_results_with_one_name_the_worse_counts() -> None:
    for statuses in (("ok", "critical"), ("critical", "ok")):
        twice = [
            probe_result("redis.ping", "redis", None, index, status=status)
            for index, status in enumerate(statuses)
        ]
        samples = parsed(render_textfile(registered(twice)))
        assert samples[("pynomaly_probe_status", of("redis.ping", "redis"))] == 2
        value = samples[("pynomaly_probe_value", (*of("redis.ping", "redis"), ("unit", "")))]
        assert value == statuses.index("critical")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"),
        (3, "3"),
        (0.25, "0.25"),
        (float("nan"), "NaN"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (1e20, "100000000000000000000"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    host = registered([probe_result("host.load", "host", None, value)])
    assert re.search(rf'unit="ratio"}} {re.escape(text)}$', render_textfile(host), re.MULTILINE)


def test_what_is_not_known_is_left_out() -> None:
    text = render_textfile({"results": [probe_result("redis.ping", "redis", None, "PONG")]})
    assert "pynomaly_probe_value" not in text
    assert "timestamp" not in text
    assert "duration" not in text
    assert 'pynomaly_check_status{project=""} 0\n' in text
