# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics of a project's backups, where node_exporter reads them."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import KINDS, BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_metrics import render_metrics
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import write_textfile


def write_metrics(store: BackupStore, textfile_dir: str) -> str:
    """Write the project's textfile; returns its path, empty where there is no such folder.

    Raises L{BackupError}.
    """
    folder = Path(textfile_dir)
    if not textfile_dir or not folder.is_dir():
        return ""
    path = folder / f"pynomaly_backup_{store.project}.prom"
    text = render_metrics(store.project, KINDS, store.backups())
    try:
        write_textfile(path, text)
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror}") from error
    return str(path)
