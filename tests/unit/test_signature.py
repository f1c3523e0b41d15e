# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures: what two other implementations made is accepted; what an attacker could make is not."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils import signature as module_under_test
from ansible_collections.isolift.vm.plugins.module_utils.signature import (
    PublicKey,
    SignatureError,
    parse_public_key,
    verify,
)

DATA = b'{"component":"guest-tools"}\n'
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def der_of(key: rsa.RSAPrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def pem(der: bytes) -> bytes:
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"


def sign(key: rsa.RSAPrivateKey) -> bytes:
    return key.sign(DATA, padding.PKCS1v15(), hashes.SHA256())


def sign_padded(key: rsa.RSAPrivateKey, encoded: bytes) -> bytes:
    """The signature whose padding is exactly ``encoded``: RSA without any rule."""
    numbers = key.private_numbers()
    size = (key.key_size + 7) // 8
    assert len(encoded) == size
    n = numbers.public_numbers.n
    return pow(int.from_bytes(encoded, "big"), numbers.d, n).to_bytes(size, "big")


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


@pytest.fixture(scope="session")
def small_exponent_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(3, 3072)


@pytest.fixture(scope="session")
def other_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def refused(data: bytes, signed: bytes, *keys: PublicKey) -> bool:
    with pytest.raises(SignatureError) as caught:
        verify(data, signed, keys)
    return caught.value.code == "bad_signature"


def test_what_cryptography_signed_verifies_and_names_its_key(
    key: rsa.RSAPrivateKey, small_exponent_key: rsa.RSAPrivateKey, other_key: rsa.RSAPrivateKey
) -> None:
    private = {"a.pub": key, "b.pub": small_exponent_key, "c.pub": other_key}
    trusted = [parse_public_key(pem_of(item), name) for name, item in private.items()]
    for name, item in private.items():
        assert verify(DATA, sign(item), trusted) == name


@pytest.mark.parametrize("bits", [2048, 2050, 3072, 4096])
def test_what_openssl_signed_verifies(bits: int, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True).stdout

    (tmp_path / "data").write_bytes(DATA)
    openssl("genrsa", "-out", "key", str(bits))
    public = parse_public_key(openssl("pkey", "-in", "key", "-pubout"), "component.pub")
    assert public.modulus.bit_length() == bits
    signed = openssl("dgst", "-sha256", "-sign", "key", "data")
    assert verify(DATA, signed, [public]) == "component.pub"
    assert refused(DATA + b" ", signed, public)


def test_a_signature_of_another_key_is_refused_and_the_keys_are_named(
    key: rsa.RSAPrivateKey, other_key: rsa.RSAPrivateKey
) -> None:
    trusted = [parse_public_key(pem_of(other_key), "other.pub")]
    with pytest.raises(SignatureError, match=r"other\.pub"):
        verify(DATA, sign(key), trusted)
    assert refused(DATA, sign(key))


def test_every_changed_bit_is_noticed(key: rsa.RSAPrivateKey) -> None:
    public = parse_public_key(pem_of(key), "k")
    signed = sign(key)
    for position in range(0, len(signed) * 8, 7):
        flipped = bytearray(signed)
        flipped[position // 8] ^= 1 << (position % 8)
        assert refused(DATA, bytes(flipped), public)
    for position in range(len(DATA) * 8):
        other = bytearray(DATA)
        other[position // 8] ^= 1 << (position % 8)
        assert refused(bytes(other), signed, public)


def test_a_signature_of_another_length_is_refused(key: rsa.RSAPrivateKey) -> None:
    public = parse_public_key(pem_of(key), "k")
    signed = sign(key)
    for wrong in (b"", signed[:-1], signed[1:], signed + b"\0", b"\0" + signed, signed * 2):
        assert refused(DATA, wrong, public)


def test_the_same_number_plus_the_modulus_is_refused(key: rsa.RSAPrivateKey) -> None:
    public = parse_public_key(pem_of(key), "k")
    size = public.modulus.bit_length() // 8
    messages = (DATA + b"x" * length for length in itertools.count())
    signatures = ((data, key.sign(data, padding.PKCS1v15(), hashes.SHA256())) for data in messages)
    fitting = ((data, int.from_bytes(made, "big") + public.modulus) for data, made in signatures)
    data, number = next((data, number) for data, number in fitting if number < 2 ** (size * 8))
    assert verify(data, (number - public.modulus).to_bytes(size, "big"), [public]) == "k"
    assert refused(data, number.to_bytes(size, "big"), public)


def cube_root(number: int) -> int:
    """The smallest integer whose cube is not below ``number``."""
    low, high = 0, 1 << (number.bit_length() // 3 + 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < number else (low, middle)
    return low


def test_a_forged_padding_with_garbage_after_the_digest_is_refused(
    small_exponent_key: rsa.RSAPrivateKey,
) -> None:
    """Bleichenbacher's forgery of 2006: made without the private key, it fools who parses the padding."""
    public = parse_public_key(pem_of(small_exponent_key), "k")
    size = small_exponent_key.key_size // 8
    start = b"\x00\x01" + b"\xff" * 8 + b"\x00" + SHA256_INFO + hashlib.sha256(DATA).digest()
    forged = cube_root(int.from_bytes(start.ljust(size, b"\x00"), "big"))
    assert pow(forged, 3, public.modulus).to_bytes(size, "big").startswith(start)
    assert refused(DATA, forged.to_bytes(size, "big"), public)


def test_a_padding_that_is_almost_right_is_refused(key: rsa.RSAPrivateKey) -> None:
    public = parse_public_key(pem_of(key), "k")
    info = SHA256_INFO + hashlib.sha256(DATA).digest()
    without_null = bytes.fromhex("302f300b0609608648016503040201" + "0420") + info[-32:]
    sha512 = bytes.fromhex("3051300d060960864801650304020305000440") + hashlib.sha512(DATA).digest()
    size = key.key_size // 8

    def padded(start: bytes, body: bytes, end: bytes = b"") -> bytes:
        return start + b"\xff" * (size - len(start) - 1 - len(body) - len(end)) + b"\x00" + body + end

    assert verify(DATA, sign_padded(key, padded(b"\x00\x01", info)), [public]) == "k"
    for encoded in (
        padded(b"\x00\x02", info),
        padded(b"\x00\x00", info),
        padded(b"\x00\x01\xfe", info),
        padded(b"\x00\x01", info, b"\x00"),
        padded(b"\x00\x01", without_null),
        padded(b"\x00\x01", sha512),
        padded(b"\x00\x01", info[-32:]),
    ):
        assert refused(DATA, sign_padded(key, encoded), public)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    assert refused(DATA, key.sign(DATA, pss, hashes.SHA256()), public)
    assert refused(DATA, key.sign(DATA, padding.PKCS1v15(), hashes.SHA512()), public)


def why_bad(data: bytes) -> str:
    with pytest.raises(SignatureError) as caught:
        parse_public_key(data, "component.pub")
    assert caught.value.code == "bad_key"
    assert "component.pub" in caught.value.detail
    return caught.value.detail


def test_other_files_than_a_public_key_are_refused_with_advice(key: rsa.RSAPrivateKey) -> None:
    encryption = serialization.NoEncryption()
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        private = key.private_bytes(serialization.Encoding.PEM, form, encryption)
        assert "is a private key" in why_bad(private)
    pkcs1 = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    assert "RSA PUBLIC KEY" in why_bad(pkcs1)
    assert "not an RSA key" in why_bad(pem_of(ec.generate_private_key(ec.SECP256R1())))
    for data in (
        b"",
        b"hello",
        der_of(key),
        pem_of(key) * 2,
        b"x" + pem_of(key),
        pem_of(key)[:-30],
        b"A" * 20000,
    ):
        assert "not one PEM block" in why_bad(data)


def test_white_space_around_a_key_does_not_matter(key: rsa.RSAPrivateKey) -> None:
    crlf = b"\r\n" + pem_of(key).replace(b"\n", b"\r\n") + b"\r\n \n"
    assert parse_public_key(crlf, "k") == parse_public_key(pem_of(key), "k")


def tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(octets)]) + octets + content


def integer(number: int) -> bytes:
    return tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


RSA = bytes.fromhex("06092a864886f70d0101010500")


def key_info(
    modulus: bytes, exponent: bytes, end: bytes = b"", unused: bytes = b"\x00", oid: bytes = RSA
) -> bytes:
    return tlv(0x30, tlv(0x30, oid) + tlv(3, unused + tlv(0x30, modulus + exponent + end)))


def test_weak_and_unsound_keys_are_refused() -> None:
    odd = (1 << 2047) + 1
    e = integer(65537)
    assert parse_public_key(pem(key_info(integer(odd), e)), "k").modulus == odd
    assert "1024 bits" in why_bad(pem(key_info(integer((1 << 1023) + 1), e)))
    assert "2047 bits" in why_bad(pem(key_info(integer((1 << 2046) + 1), e)))
    assert "16385 bits" in why_bad(pem(key_info(integer((1 << 16384) + 1), e)))
    assert "sound" in why_bad(pem(key_info(integer(odd + 1), e)))
    for exponent in (0, 1, 2, 65536, 2**32 + 1):
        assert "sound" in why_bad(pem(key_info(integer(odd), integer(exponent))))


def test_der_that_is_not_strict_is_refused() -> None:
    n, e = integer((1 << 2047) + 1), integer(65537)
    good = key_info(n, e)
    body = n[4:]
    for bad in (
        good + b"\x00",
        good[:-1],
        b"\x31" + good[1:],
        b"\x30\x80" + good[4:] + b"\x00\x00",
        b"\x30\x83\x00" + good[2:],
        b"\x30\x85\x00\x00\x00" + good[2:],
        key_info(n, e, end=b"\x05\x00"),
        key_info(n, e, unused=b"\x01"),
        key_info(n, e, oid=RSA[:-2]),
        key_info(n, e, oid=RSA + b"\x05\x00"),
        key_info(tlv(2, b"\x00" + body), e),
        key_info(tlv(2, body[1:]), e),
        key_info(tlv(2, b""), e),
        key_info(n, b"\x02\x81\x03\x01\x00\x01"),
        key_info(n, tlv(2, b"\x00\x00\x03")),
        b"",
        b"\x30",
    ):
        why_bad(pem(bad))


@given(st.binary() | st.binary().map(pem))
def test_hostile_bytes_are_no_key_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(SignatureError):
        parse_public_key(data, "k")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_what_is_accepted_of_a_damaged_key_is_what_cryptography_reads(
    key: rsa.RSAPrivateKey, seed: int
) -> None:
    chance = random.Random(seed)
    der = bytearray(der_of(key))
    for _change in range(chance.randint(1, 3)):
        der[chance.choice([chance.randrange(40), chance.randrange(len(der))])] = chance.randrange(256)
    try:
        ours = parse_public_key(pem(bytes(der)), "k")
    except SignatureError:
        return
    theirs = serialization.load_der_public_key(bytes(der))
    assert isinstance(theirs, rsa.RSAPublicKey)
    assert (ours.modulus, ours.exponent) == (theirs.public_numbers().n, theirs.public_numbers().e)


def test_the_guest_pays_for_hashing_only_when_it_verifies() -> None:
    folder = Path(module_under_test.__file__).parents[1]
    code = "import module_utils.signature, sys; sys.exit('hashlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
