# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m pynomaly_api.healthcheck`: 0 when /health answers 200 within three seconds."""

from __future__ import annotations

import http.client
import sys


def main() -> int:
    """Ask the API in this container; what it answered goes to the health log."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=3)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        print(answer.status, answer.read(1000).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {type(error).__name__}: {error}")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
