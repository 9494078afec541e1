# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's logic as one file that Python runs: https://docs.python.org/3/library/zipapp.html"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

_PACKAGE = "ansible_collections/pynomaly/ops/plugins/module_utils"
_EDGES = "_edges"
#: What can only be imported where Ansible is.
_NEEDS_ANSIBLE = ("_edges/operation_module.py",)
#: Not compressed, and the earliest that a zip can say, so that the file is the same wherever and
#: whenever it is made.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o644 << 16

_MAIN = """\
import sys
from importlib import import_module

NAMES = {names!r}

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    sys.exit("usage: python3 FILE NAME ARGUMENT..., with one of these names: " + ", ".join(NAMES))
module = import_module("{package}." + sys.argv[1])
sys.exit(module.main(sys.argv[2:]))
"""


class HostProgramError(ValueError):
    """The program cannot be made; the text says why."""


def pack(sources: Mapping[str, bytes], names: Sequence[str]) -> bytes:
    """The program, of Python sources by their path below C{module_utils}.

    ``names`` are the modules among them, in C{_edges}, whose C{main} can be called. Raises
    L{HostProgramError} for one that is not there.
    """
    for name in names:
        if f"{_EDGES}/{name}.py" not in sources:
            raise HostProgramError(f"there is no module {name}, expected one below {_EDGES}")
    if not names:
        raise HostProgramError("no module is named, expected at least one")
    files = {
        f"{_PACKAGE}/{path}": data for path, data in sources.items() if path not in _NEEDS_ANSIBLE
    }
    parts = _PACKAGE.split("/")
    for depth in range(1, len(parts) + 1):
        files.setdefault("/".join([*parts[:depth], "__init__.py"]), b"")
    package = ".".join([*parts, _EDGES])
    files["__main__.py"] = _MAIN.format(names=tuple(names), package=package).encode()
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, _MOMENT)
            entry.compress_type = zipfile.ZIP_STORED
            entry.external_attr = _READABLE
            archive.writestr(entry, files[path])
    return buffer.getvalue()
