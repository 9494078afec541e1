# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m pynomaly_api`: serve on port 8000 until SIGTERM."""

from __future__ import annotations

import logging
import os
import sys

import uvicorn

from .app import make_app
from .settings import SettingsError, read_settings


def main() -> int:
    """Serve; 1 when the settings cannot be used."""
    logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s", level=logging.INFO)
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        logging.getLogger("pynomaly.settings").critical("%s", error)
        return 1
    logging.getLogger().setLevel(settings.log_level)
    uvicorn.run(
        make_app(settings),
        host="0.0.0.0",
        port=8000,
        log_config=None,
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=8,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
