# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Prometheus text format, for node_exporter's textfile collector:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping


def _escaped(text: object) -> str:
    """A label's value: the format escapes backslash, double quote and line feed, nothing else."""
    encodable = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return encodable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def labels(pairs: Iterable[tuple[str, object]]) -> str:
    """The labels of one sample, escaped, in braces."""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def family(name: str, text: str, samples: Mapping[str, float]) -> list[str]:
    """The lines of one gauge: its help, its type, and a sample for each text of L{labels}."""
    if not samples:
        return []
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} gauge",
        *(f"{name}{labels} {_number(value)}" for labels, value in samples.items()),
    ]
