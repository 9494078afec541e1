# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Anomaly scores: pure functions over lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

# Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993): the modified
# z-score, its constant (the normal distribution's 75th percentile) and threshold.
NORMAL_75TH_PERCENTILE = 0.6745
DEFAULT_THRESHOLD = 3.5
# For normal data the mean absolute deviation is 1 / 1.253314 of the standard deviation.
MEAN_DEVIATION_FACTOR = 1.253314


@dataclass(frozen=True)
class Anomaly:
    """One value whose score is beyond the threshold."""

    index: int
    value: float
    score: float


class Scores(NamedTuple):
    """Centre and spread of the values (in their own unit), and a score for each."""

    center: float
    scale: float
    scores: list[float]


def modified_z_scores(values: Sequence[float]) -> Scores:
    """Score each of `values` (finite, at least one) by its distance from the median.

    The scale is the median absolute deviation; where more than half of the values
    are equal that is 0, and the mean absolute deviation takes its place. If that
    is 0 too, all values are equal and no score is above 0.
    """
    center = median(values)
    distances = [abs(value - center) for value in values]
    scale = median(distances) / NORMAL_75TH_PERCENTILE
    if scale == 0:
        scale = fmean(distances) * MEAN_DEVIATION_FACTOR
    if scale == 0:
        return Scores(center, 0.0, [0.0] * len(values))
    return Scores(center, scale, [(value - center) / scale for value in values])


def find_anomalies(values: Sequence[float], scores: Scores, threshold: float) -> list[Anomaly]:
    """The values whose score is beyond `threshold` on either side, in their order."""
    return [
        Anomaly(index, value, score)
        for index, (value, score) in enumerate(zip(values, scores.scores, strict=True))
        if abs(score) > threshold
    ]
