# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify RSA signatures: PKCS#1 v1.5 with SHA-256, by PEM public keys.

The guest agent verifies with this file and nothing but the standard library, so that no guest needs a
cryptography package. Verifying is public arithmetic: it holds no secret. The padding is not parsed but built
anew and compared as a whole, which leaves nothing for a forged padding to exploit. Reference: RFC 8017,
sections 8.2.2 and 9.2.

`openssl dgst -sha256 -sign` makes such signatures, `openssl pkey -pubout` writes such keys.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Sequence

MIN_BITS = 2048
"""Fewest bits of a key that is accepted."""

MAX_BITS = 16384
"""Most bits of a key; it bounds the work of a verification."""

SIGNATURE_LIMIT = MAX_BITS // 8
"""Most bytes that a signature can have."""

_PEM = re.compile(rb"\s*-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----\s*")
_RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d0101010500")  # OID 1.2.840.113549.1.1.1, then NULL
_SHA256_INFO = bytes.fromhex(
    "3031300d060960864801650304020105000420"
)  # DigestInfo of SHA-256 up to the digest
_SEQUENCE, _INTEGER, _BIT_STRING = 0x30, 0x02, 0x03


class SignatureError(Exception):
    """A key that cannot be used, or a signature that no key made.

    :ivar code: a short stable word: ``bad_key`` or ``bad_signature``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class PublicKey:
    """An RSA public key; ``name`` is what reports call it."""

    name: str
    modulus: int
    exponent: int


def parse_public_key(pem: bytes, name: str) -> PublicKey:
    """The RSA key of one PEM SubjectPublicKeyInfo block (``BEGIN PUBLIC KEY``).

    :raises SignatureError: ``bad_key``, and no other exception for any bytes whatever.
    """
    try:
        modulus, exponent = _parse_key_info(_unwrap_pem(pem))
    except ValueError as error:
        raise SignatureError("bad_key", f"key {name}: {error}") from error
    bits = modulus.bit_length()
    if not MIN_BITS <= bits <= MAX_BITS:
        raise SignatureError("bad_key", f"key {name}: has {bits} bits; use {MIN_BITS} to {MAX_BITS}")
    if modulus % 2 == 0 or exponent % 2 == 0 or not 3 <= exponent < 2**32:
        raise SignatureError("bad_key", f"key {name}: is no sound RSA key; make a new one")
    return PublicKey(name, modulus, exponent)


def verify(data: bytes, signature: bytes, keys: Sequence[PublicKey]) -> str:
    """The name of the key among ``keys`` that made ``signature`` over ``data``.

    :raises SignatureError: ``bad_signature``: none of them did.
    """
    import hashlib  # here, because most runs of the agent verify nothing

    info = _SHA256_INFO + hashlib.sha256(data).digest()
    for key in keys:
        if _made_by(key, signature, info):
            return key.name
    names = ", ".join(key.name for key in keys) or "(none given)"
    raise SignatureError("bad_signature", f"not made over this data by any of the keys: {names}")


def _made_by(key: PublicKey, signature: bytes, info: bytes) -> bool:
    from hmac import compare_digest

    size = (key.modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) != size or number >= key.modulus:
        return False
    encoded = pow(number, key.exponent, key.modulus).to_bytes(size, "big")
    expected = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    return compare_digest(encoded, expected)


def _unwrap_pem(pem: bytes) -> bytes:
    block = _PEM.fullmatch(pem) if len(pem) <= 16384 else None
    if block is None:
        raise ValueError("is not one PEM block")
    label = block.group(1)
    if label.endswith(b"PRIVATE KEY"):
        raise ValueError("is a private key; give the public one, from: openssl pkey -in KEY -pubout")
    if label != b"PUBLIC KEY":
        raise ValueError(
            f"is a {label.decode('ascii')}; expected a PUBLIC KEY, from: openssl pkey -in KEY -pubout"
        )
    return binascii.a2b_base64(block.group(2))  # binascii.Error is a ValueError


def _parse_key_info(der: bytes) -> tuple[int, int]:
    """(modulus, exponent) of a SubjectPublicKeyInfo. Strict: one valid encoding, no byte left over."""
    info = _only(der, _SEQUENCE)
    algorithm, rest = _element(info, _SEQUENCE)
    if algorithm != _RSA_ENCRYPTION:
        raise ValueError("is not an RSA key; make one with: openssl genrsa -out KEY 3072")
    bits = _only(rest, _BIT_STRING)
    if bits[:1] != b"\x00":
        raise ValueError("has a malformed bit string")
    modulus, rest = _element(_only(bits[1:], _SEQUENCE), _INTEGER)
    return _natural(modulus), _natural(_only(rest, _INTEGER))


def _only(data: bytes, tag: int) -> bytes:
    content, rest = _element(data, tag)
    if rest:
        raise ValueError("has bytes after its end")
    return content


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content, what follows) of the DER element with this tag that ``data`` begins with."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("is not the DER of a public key")
    start, length = 2, data[1]
    if length >= 0x80:
        start += length - 0x80
        octets = data[2:start]
        length = int.from_bytes(octets, "big")
        if not 1 <= len(octets) <= 4 or octets[0] == 0 or length < 0x80:
            raise ValueError("has a malformed DER length")
    end = start + length
    if end > len(data):
        raise ValueError("is cut short")
    return data[start:end], data[end:]


def _natural(content: bytes) -> int:
    if not content or content[0] >= 0x80 or (content[0] == 0 and len(content) > 1 and content[1] < 0x80):
        raise ValueError("has a malformed DER integer")
    return int.from_bytes(content, "big")
