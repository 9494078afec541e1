# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report's files on the controller: one of each form a run, and a link to the latest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    PathLike,
    ensure_directory,
    point_symlink,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report import file_stem

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640


def _free_stem(directory: Path, stem: str, endings: Mapping[str, str]) -> str:
    """The stem, or the stem with a number where a run of the same second and id was faster."""
    candidate, number = stem, 1
    while any((directory / f"{candidate}.{ending}").exists() for ending in endings):
        number += 1
        candidate = f"{stem}-{number}"
    return candidate


def write_report_files(
    report: Mapping[str, Any], directory: PathLike, texts: Mapping[str, str]
) -> dict[str, Path]:
    """Write each text as ``KIND-TIME-RUN.ENDING`` and point ``KIND-latest.ENDING`` to it.

    ``texts`` maps an ending (json, md, html) to a file's content; the answer maps it to the file.
    The folder is made where it lacks. No file is ever overwritten. Raises C{OSError}.
    """
    folder = Path(directory)
    ensure_directory(folder, DIRECTORY_MODE)
    while True:
        stem = _free_stem(folder, file_stem(report), texts)
        paths = {ending: folder / f"{stem}.{ending}" for ending in texts}
        written: list[Path] = []
        try:
            for ending, path in paths.items():
                write_atomically(path, texts[ending], FILE_MODE, exclusive=True)
                written.append(path)
        except FileExistsError:  # somebody took the name since we looked
            for path in written:
                path.unlink()
            continue
        break
    for ending, path in paths.items():
        point_symlink(folder / f"{report['kind']}-latest.{ending}", path.name)
    return paths
