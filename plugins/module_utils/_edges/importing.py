# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One thread imports at a time."""

from __future__ import annotations

import threading

#: To be held around an import of many modules in a thread. Python 3.11.2, which is Debian 12's, has
#: been seen to hang for good where two threads imported at once and the garbage collector ran in
#: between: https://github.com/python/cpython/issues/91351
IMPORTING = threading.RLock()
