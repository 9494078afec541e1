# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive in which Ansible ships a module with what it imports."""

from __future__ import annotations

import sys
import zipimport

_COLLECTIONS = __name__.partition(".")[0]


class CompilingOnce(zipimport.zipimporter):
    """Tells a module's file by its name.

    Python's own importer (seen in 3.11 and 3.13) compiles a module's source to tell where that is,
    throws it away, and compiles it again to run it. With the daily check's forty files that is a
    tenth of its time.
    """

    def get_filename(self, fullname: str) -> str:
        tail = "/__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}/{self.prefix}{fullname.rpartition('.')[2]}{tail}"


def import_quickly() -> None:
    """From here on import what the archive has of collections without compiling it twice.

    Does nothing where the module was not shipped in an archive.
    """
    loader = getattr(sys.modules[__name__], "__loader__", None)
    if not isinstance(loader, zipimport.zipimporter):
        return
    sys.path_hooks.insert(0, CompilingOnce)
    packages = f"{loader.archive}/{_COLLECTIONS}/"
    for path in [one for one in sys.path_importer_cache if one.startswith(packages)]:
        del sys.path_importer_cache[path]
