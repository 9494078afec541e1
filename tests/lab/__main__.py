# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start the lab's command line; ``./lab`` calls this file by its path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from lab.cli import main  # noqa: E402  (the path above has to be set first)

sys.exit(main(sys.argv[1:]))
