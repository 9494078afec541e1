# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What proves that nginx serves the configuration that was written, and what it says where not."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

_PEM_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----", re.DOTALL
)


@dataclass(frozen=True)
class Proof:
    """What the new configuration answers and the old one does not.

    ``digest`` is the body of an answer at ``path`` on ``port`` of the container, and
    ``certificate`` the fingerprint of the one served at ``tls_port`` under ``tls_server_name``.
    What is empty is not asked.
    """

    digest: str = ""
    port: int = 8080
    path: str = "/configuration"
    certificate: str = ""
    tls_port: int = 443
    tls_server_name: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.digest or self.certificate)


@dataclass(frozen=True)
class Served:
    """What a running nginx answers, in a L{Proof}'s terms; where it is none, ``problems`` says
    why, by C{configuration} and C{certificate}."""

    digest: str = ""
    certificate: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def proves(self, proof: Proof) -> bool:
        """Whether all that was to be asked is as expected."""
        return (not proof.digest or self.digest == proof.digest) and (
            not proof.certificate or self.certificate == proof.certificate
        )

    def difference(self, proof: Proof) -> str:
        """What is not as expected, with what was seen; empty where nothing is."""
        parts = []
        if proof.digest and self.digest != proof.digest:
            seen = self.problems.get("configuration") or f"configuration {_short(self.digest)}"
            parts.append(f"seen {seen}, expected configuration {_short(proof.digest)}")
        if proof.certificate and self.certificate != proof.certificate:
            seen = self.problems.get("certificate") or f"certificate {_short(self.certificate)}"
            parts.append(f"seen {seen}, expected certificate {_short(proof.certificate)}")
        return "; ".join(parts)


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate, in hexadecimal."""
    return hashlib.sha256(der).hexdigest()


def leaf_fingerprint(pem: str) -> Optional[str]:
    """The fingerprint of the first certificate in a PEM text; C{None} where there is none."""
    match = _PEM_CERTIFICATE.search(pem.replace("\r\n", "\n"))
    if match is None:
        return None
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(match.group(0)))
    except ValueError:
        return None


def _short(digest: str) -> str:
    return digest[:12] if digest else "none"
