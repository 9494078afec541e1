# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_reload import (
    Proof,
    Served,
    leaf_fingerprint,
)

NEW, OLD = "a" * 64, "b" * 64


def pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("proof", "served", "difference"),
    [
        (Proof(), Served(), ""),
        (Proof(digest=NEW), Served(digest=NEW), ""),
        (Proof(certificate=NEW), Served(digest=OLD, certificate=NEW), ""),
        (
            Proof(digest=NEW),
            Served(digest=OLD),
            "seen configuration bbbbbbbbbbbb, expected configuration aaaaaaaaaaaa",
        ),
        (
            Proof(digest=NEW),
            Served(problems={"configuration": "10.0.0.1:8080: connection refused"}),
            "seen 10.0.0.1:8080: connection refused, expected configuration aaaaaaaaaaaa",
        ),
        (
            Proof(digest=NEW, certificate=NEW),
            Served(digest=NEW, certificate=OLD),
            "seen certificate bbbbbbbbbbbb, expected certificate aaaaaaaaaaaa",
        ),
        (
            Proof(digest=NEW, certificate=NEW),
            Served(),
            "seen configuration none, expected configuration aaaaaaaaaaaa; "
            "seen certificate none, expected certificate aaaaaaaaaaaa",
        ),
    ],
)
def test_what_is_served_is_compared(proof: Proof, served: Served, difference: str) -> None:
    assert served.difference(proof) == difference
    assert served.proves(proof) == (not difference)


def test_a_proof_that_asks_nothing_is_empty() -> None:
    assert Proof().is_empty
    assert not Proof(digest=NEW).is_empty
    assert not Proof(certificate=NEW).is_empty


def test_the_leaf_is_the_first_certificate_of_a_chain() -> None:
    chain = "# ours\n" + pem(b"leaf") + pem(b"issuer")
    assert leaf_fingerprint(chain) == hashlib.sha256(b"leaf").hexdigest()
    assert leaf_fingerprint(chain.replace("\n", "\r\n")) == leaf_fingerprint(chain)


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n", pem(b"xyz").replace("eHl6", "A")]
)
def test_what_is_no_certificate(text: str) -> None:
    assert leaf_fingerprint(text) is None
