# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Component ISOs: real images, read back by this collection and by other readers, libarchive's bsdtar and cdrkit's isoinfo."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import stat
import subprocess
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath

import pycdlib
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils.disc import DiscWriter, IsoError, new_disc, open_disc
from ansible_collections.isolift.vm.plugins.module_utils.iso import (
    MANIFEST_PATH,
    SIGNATURE_PATH,
    ComponentDisc,
    Description,
    Signer,
    build,
    load_public_keys,
    read,
)
from ansible_collections.isolift.vm.plugins.module_utils.manifest import (
    FileEntry,
    Manifest,
    parse_platforms,
    render,
)

LINUX = {
    "os": "linux",
    "detect": {"file": "/var/lib/guest-tools/version"},
    "install": ["/bin/sh", "payload/install.sh"],
}
WINDOWS = {
    "os": "windows",
    "detect": {"file": "C:\\guest-tools\\version"},
    "install": ["payload\\bin\\setup.exe", "/quiet"],
}
GUEST_TOOLS = Description("guest-tools", "2.0.0", parse_platforms([LINUX]))
SCRIPT = b"#!/bin/sh\necho installing\n"


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


@pytest.fixture(scope="session")
def signer(key: rsa.RSAPrivateKey) -> Signer:
    return Signer(private_pem(key))


@pytest.fixture(scope="session")
def stranger() -> Signer:
    return Signer(private_pem(rsa.generate_private_key(65537, 3072)))


def put(root: Path, name: str, data: bytes = b"", executable: bool = False) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755 if executable else 0o644)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "guest-tools"
    put(root, "install.sh", SCRIPT, executable=True)
    put(root, "bin/setup.exe", b"MZ" + bytes(5000), executable=True)
    put(root, "data/Read Me First.txt", b"Hello\n")
    put(root, "data/größe-文件.txt", b"42\n")
    put(root, "empty")
    return root


UTF8 = {**os.environ, "LC_ALL": "C.UTF-8"}


def members_of(image: Path) -> dict[str, tarfile.TarInfo]:
    """What libarchive finds in the image through Rock Ridge: every member by its name."""
    command = ["bsdtar", "--create", "--format=pax", "--file=-", f"@{image}"]
    done = subprocess.run(command, check=True, capture_output=True, env=UTF8)
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        return {member.name: member for member in archive}


def linux_files(image: Path) -> set[str]:
    return {name for name, member in members_of(image).items() if member.isfile() or member.islnk()}


def linux_paths(image: Path) -> set[str]:
    """The names of all files and directories that cdrkit's isoinfo finds through Rock Ridge.

    Unlike libarchive, and like Linux, it takes a name's continuation wherever on the disc that is.
    """
    command = ["isoinfo", "-R", "-f", "-i", str(image)]
    done = subprocess.run(command, check=True, capture_output=True, env=UTF8)
    return {line.removeprefix("/") for line in done.stdout.decode().splitlines()}


def windows_names(image: Path) -> set[str]:
    """The names of all files and directories that libarchive finds through Joliet."""
    command = ["bsdtar", "--list", "--options=!rockridge", "--file", str(image)]
    done = subprocess.run(command, check=True, capture_output=True, env=UTF8)
    return set(done.stdout.decode().splitlines())


def extract(image: Path, name: str) -> bytes:
    command = ["bsdtar", "--extract", "--to-stdout", "--file", str(image), name]
    return subprocess.run(command, check=True, capture_output=True, env=UTF8).stdout


# Building


def test_a_built_disc_reads_back_as_what_was_put_in(source: Path, signer: Signer, tmp_path: Path) -> None:
    dest = tmp_path / "guest-tools.iso"
    disc, changed = build(str(source), GUEST_TOOLS, signer, str(dest))
    assert changed
    assert read(str(dest), [signer.public_key]) == disc
    assert disc.iso_sha256 == hashlib.sha256(dest.read_bytes()).hexdigest()
    assert disc.size == dest.stat().st_size
    assert disc.key_name == signer.public_key.name
    assert (disc.manifest.component, disc.manifest.version) == ("guest-tools", "2.0.0")
    assert disc.manifest.files == tuple(
        FileEntry(f"payload/{name}", len(data), hashlib.sha256(data).hexdigest(), executable)
        for name, data, executable in [
            ("bin/setup.exe", b"MZ" + bytes(5000), True),
            ("data/Read Me First.txt", b"Hello\n", False),
            ("data/größe-文件.txt", b"42\n", False),
            ("empty", b"", False),
            ("install.sh", SCRIPT, True),
        ]
    )


def test_another_reader_sees_names_content_and_modes(source: Path, signer: Signer, tmp_path: Path) -> None:
    image = tmp_path / "x.iso"
    (source / "data" / "Read Me First.txt").chmod(0o600)
    (source / "bin" / "setup.exe").chmod(0o4700)
    disc, _changed = build(str(source), GUEST_TOOLS, signer, str(image))
    members = members_of(image)
    assert linux_files(image) == {MANIFEST_PATH, SIGNATURE_PATH} | {
        entry.path for entry in disc.manifest.files
    }
    for entry in disc.manifest.files:
        member = members[entry.path]
        assert (member.mode, member.uid, member.gid) == (0o755 if entry.executable else 0o644, 0, 0)
        assert (member.size, hashlib.sha256(extract(image, entry.path)).hexdigest()) == (
            entry.size,
            entry.sha256,
        )
    assert {members[name].mode for name in ("isolift", "payload", "payload/bin")} == {0o755}
    assert hashlib.sha256(extract(image, MANIFEST_PATH)).hexdigest() == disc.manifest_sha256
    assert {member.mtime for member in members.values()} == {1577836800}  # 2020-01-01 00:00 UTC


def test_openssl_verifies_the_signature_on_the_disc(
    source: Path, signer: Signer, key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    image = tmp_path / "x.iso"
    build(str(source), GUEST_TOOLS, signer, str(image))
    for name, path in (("manifest", MANIFEST_PATH), ("signature", SIGNATURE_PATH)):
        (tmp_path / name).write_bytes(extract(image, path))
    (tmp_path / "public").write_bytes(public_pem(key))
    command = ["openssl", "dgst", "-sha256", "-verify", "public", "-signature", "signature", "manifest"]
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout == b"Verified OK\n"


def test_windows_sees_the_same_names_through_joliet(source: Path, signer: Signer, tmp_path: Path) -> None:
    image = tmp_path / "x.iso"
    description = Description("guest-tools", "2.0.0", parse_platforms([WINDOWS]))
    disc, _changed = build(str(source), description, signer, str(image))
    assert windows_names(image) >= {
        MANIFEST_PATH,
        SIGNATURE_PATH,
        *(entry.path for entry in disc.manifest.files),
    }


@pytest.fixture
def far_away() -> Iterator[None]:
    zone = os.environ.get("TZ")
    os.environ["TZ"] = "Pacific/Chatham"
    time.tzset()
    yield
    del os.environ["TZ"]
    if zone is not None:
        os.environ["TZ"] = zone
    time.tzset()


def build_at(now: float, source: Path, signer: Signer, dest: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now)
        build(str(source), GUEST_TOOLS, signer, str(dest))
    return dest.read_bytes()


def test_the_same_input_gives_the_same_bytes_elsewhere_and_years_later(
    source: Path, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far_away: None
) -> None:
    first = build_at(1.7e9, source, signer, tmp_path / "first.iso", monkeypatch)
    other = tmp_path / "other place"
    for path in sorted((path for path in source.rglob("*") if path.is_file()), reverse=True):
        put(other, str(path.relative_to(source)), path.read_bytes(), os.access(path, os.X_OK))
    (other / "left" / "out").mkdir(parents=True)
    os.environ["TZ"] = "America/St_Johns"
    time.tzset()
    second = build_at(2.1e9, other, signer, tmp_path / "second.iso", monkeypatch)
    assert second == first


def test_pycdlib_has_its_own_dates_again_after_a_build(source: Path, signer: Signer, tmp_path: Path) -> None:
    build(str(source), GUEST_TOOLS, signer, str(tmp_path / "x.iso"))
    image = pycdlib.PyCdlib()
    image.new()
    year = image.pvd.root_directory_record().date.years_since_1900
    image.close()
    assert year + 1900 >= 2026


def test_a_disc_that_is_already_right_is_not_touched(source: Path, signer: Signer, tmp_path: Path) -> None:
    dest = tmp_path / "x.iso"
    first, _changed = build(str(source), GUEST_TOOLS, signer, str(dest))
    dest.chmod(0o640)
    before = dest.stat()
    assert build(str(source), GUEST_TOOLS, signer, str(dest)) == (first, False)
    assert dest.stat() == before
    put(source, "install.sh", SCRIPT + b"# more\n", executable=True)
    second, changed = build(str(source), GUEST_TOOLS, signer, str(dest))
    assert changed
    assert second.iso_sha256 != first.iso_sha256
    assert dest.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["guest-tools", "x.iso"] or sorted(os.listdir(tmp_path)) == [
        "guest-tools",
        "x.iso",
    ]


def test_building_for_information_writes_nothing_but_scratch(
    source: Path, signer: Signer, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    dest = tmp_path / "x.iso"
    planned, changed = build(str(source), GUEST_TOOLS, signer, str(dest), str(scratch))
    assert changed
    assert not dest.exists()
    assert not os.listdir(scratch)
    assert build(str(source), GUEST_TOOLS, signer, str(dest)) == (planned, True)
    assert build(str(source), GUEST_TOOLS, signer, str(dest), str(scratch)) == (planned, False)


def test_deep_directories_and_many_long_names_are_kept(signer: Signer, tmp_path: Path) -> None:
    source, image = tmp_path / "source", tmp_path / "x.iso"
    put(source, "install.sh", SCRIPT)
    put(source, "/".join(f"level {number}" for number in range(40)) + "/deep")
    for number in range(120):
        put(source, f"long/{number:03d}{'n' * 247}", str(number).encode())
        put(source, f"uni/{number:03d}{'ü' * 123}", str(number).encode())
    disc, _changed = build(str(source), GUEST_TOOLS, signer, str(image))
    assert len(disc.manifest.files) == 242
    assert linux_files(image) == {
        MANIFEST_PATH,
        SIGNATURE_PATH,
        *(entry.path for entry in disc.manifest.files),
    }
    assert not [name for name in windows_names(image) if "/long/" in name or "/uni/" in name]


NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\"),
    min_size=1,
    max_size=80,
)
NAMES = st.lists(
    NAME.filter(lambda name: name not in (".", "..", "d ü") and len(name.encode()) <= 250),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=NAMES, depths=st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_linux_sees_any_name_as_it_was(
    names: list[str], depths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = {
        f"payload/{'d ü/' * depth}{name}": name.encode() for name, depth in zip(names, depths, strict=False)
    }
    image = tmp_path_factory.mktemp("names") / "x.iso"
    with new_disc() as writer, open(image, "wb") as stream:
        for path in sorted(paths):
            writer.add_bytes(path, paths[path])
        writer.write(stream)
    with open_disc(str(image)) as disc:
        for path, data in paths.items():
            assert disc.length(path) == len(data)
            with disc.open(path) as content:
                assert content.read() == data
    directories = {str(parent) for path in paths for parent in PurePosixPath(path).parents} - {"."}
    assert linux_paths(image) == set(paths) | directories


# What cannot be built


def refusal(source: Path, signer: Signer, dest: Path, description: Description = GUEST_TOOLS) -> IsoError:
    """The error that building ends with, after checking that it left nothing behind."""
    before = sorted(os.listdir(dest.parent)) if dest.parent.is_dir() else None
    with pytest.raises(IsoError) as caught:
        build(str(source), description, signer, str(dest))
    assert before is None or sorted(os.listdir(dest.parent)) == before
    return caught.value


def test_links_and_special_files_are_refused_by_name(source: Path, signer: Signer, tmp_path: Path) -> None:
    link = source / "data" / "link"
    for target in ("größe-文件.txt", "/etc/passwd", "nowhere", "."):
        link.symlink_to(target)
        error = refusal(source, signer, tmp_path / "x.iso")
        assert (error.code, str(link) in error.detail, "symbolic link" in error.detail) == (
            "bad_source",
            True,
            True,
        )
        link.unlink()
    os.mkfifo(link)
    error = refusal(source, signer, tmp_path / "x.iso")
    assert (error.code, str(link) in error.detail) == ("bad_source", True)


def test_a_source_that_is_none_is_refused(source: Path, signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    for wrong in (tmp_path / "absent", source / "install.sh", tmp_path / "void"):
        error = refusal(wrong, signer, tmp_path / "x.iso")
        assert (error.code, str(wrong) in error.detail) == ("bad_source", True)


def test_a_name_that_is_not_utf_8_is_refused_by_its_bytes(
    source: Path, signer: Signer, tmp_path: Path
) -> None:
    os.mkdir(os.fsencode(source) + b"/gro\xdf")
    error = refusal(source, signer, tmp_path / "x.iso")
    assert (error.code, r"/gro\xdf'" in error.detail) == ("bad_name", True)


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"tab\there", b"back\\slash", b"n" * 251, b"INSTALL.SH", "\u2028".encode()]
)
def test_a_name_that_guests_cannot_share_is_refused(
    name: bytes, source: Path, signer: Signer, tmp_path: Path
) -> None:
    with open(os.fsencode(source) + b"/" + name, "wb"):
        pass
    assert refusal(source, signer, tmp_path / "x.iso").code in ("bad_name", "bad_description")


@pytest.mark.parametrize(
    "name", ["a:b", "what?", "aux", "Com1.txt", "dot.", "blank ", "a*", "n" * 65, "é" * 33]
)
def test_a_name_that_windows_cannot_show_is_refused_only_for_windows(
    name: str, source: Path, signer: Signer, tmp_path: Path
) -> None:
    put(source, f"data/{name}")
    description = Description("guest-tools", "2.0.0", parse_platforms([LINUX, WINDOWS]))
    error = refusal(source, signer, tmp_path / "x.iso", description)
    assert (error.code, name in error.detail) == ("bad_name", True)
    build(str(source), GUEST_TOOLS, signer, str(tmp_path / "x.iso"))
    assert f"payload/data/{name}" in linux_files(tmp_path / "x.iso")
    assert f"payload/data/{name}" not in windows_names(tmp_path / "x.iso")


def test_an_installer_that_is_not_among_the_files_is_refused(
    source: Path, signer: Signer, tmp_path: Path
) -> None:
    for argument in ("payload/instal.sh", "payload/install.sh/x", "payload/da"):
        platforms = parse_platforms([{**LINUX, "install": ["/bin/sh", argument]}])
        error = refusal(source, signer, tmp_path / "x.iso", Description("guest-tools", "2.0.0", platforms))
        assert (error.code, argument in error.detail) == ("bad_description", True)
    for argument in ("payload/data", "payload/data/", "-c", "--from=payload/x"):
        platforms = parse_platforms([{**LINUX, "install": ["/bin/sh", argument]}])
        build(str(source), Description("guest-tools", "2.0.0", platforms), signer, str(tmp_path / "ok.iso"))


def test_a_description_that_is_not_valid_is_refused(source: Path, signer: Signer, tmp_path: Path) -> None:
    for component, version in (("guest tools", "1"), ("guest-tools", ""), ("guest-tools", "1\n")):
        error = refusal(
            source, signer, tmp_path / "x.iso", Description(component, version, GUEST_TOOLS.platforms)
        )
        assert error.code == "bad_description"


def test_a_destination_that_cannot_hold_the_disc_is_refused(
    source: Path, signer: Signer, tmp_path: Path
) -> None:
    for wrong in (tmp_path, tmp_path / "absent" / "x.iso", source / "x.iso", source / "data" / "x.iso"):
        error = refusal(source, signer, wrong)
        assert (error.code, str(wrong.parent) in error.detail) == ("bad_dest", True)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_what_is_no_regular_file_is_neither_replaced_nor_waited_for(
    kind: int, source: Path, signer: Signer, tmp_path: Path
) -> None:
    special = tmp_path / "special"
    os.mknod(special, kind | 0o600, os.makedev(1, 3))  # the numbers of /dev/null
    error = refusal(source, signer, special)
    assert (error.code, str(special) in error.detail) == ("bad_dest", True)
    assert stat.S_IFMT(special.stat().st_mode) == kind
    assert why_unusable(special, signer) == "unreadable"


def test_a_file_that_changes_during_the_build_never_makes_a_wrong_disc(
    source: Path, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "x.iso"
    build(str(source), GUEST_TOOLS, signer, str(dest))
    good = dest.read_bytes()
    put(source, "data/Read Me First.txt", b"second\n")
    write = DiscWriter.write

    def interfere(self: DiscWriter, stream: BytesIO) -> None:
        put(source, "data/Read Me First.txt", b"THIRD!\n")
        write(self, stream)

    monkeypatch.setattr(DiscWriter, "write", interfere)
    error = refusal(source, signer, dest)
    assert (error.code, "Read Me First.txt" in error.detail) == ("cannot_write", True)
    assert dest.read_bytes() == good


def test_a_disk_that_takes_no_more_keeps_the_old_disc(source: Path, signer: Signer, tmp_path: Path) -> None:
    dest = tmp_path / "x.iso"
    build(str(source), GUEST_TOOLS, signer, str(dest))
    good = dest.read_bytes()
    put(source, "big", random.Random(1).randbytes(400_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        error = refusal(source, signer, dest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (error.code, "File too large" in error.detail, str(dest) in error.detail) == (
        "cannot_write",
        True,
        True,
    )
    assert dest.read_bytes() == good


# Keys


def test_only_a_strong_rsa_key_with_its_passphrase_signs(key: rsa.RSAPrivateKey) -> None:
    assert Signer(private_pem(key, b"secret"), b"secret").public_key == Signer(private_pem(key)).public_key
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    pkcs1 = key.private_bytes(serialization.Encoding.PEM, traditional, serialization.NoEncryption())
    assert Signer(pkcs1).sign(b"x") == Signer(private_pem(key)).sign(b"x")
    weak = private_pem(rsa.generate_private_key(65537, 2048))
    for pem, passphrase, message in (
        (weak, None, "is RSA of 2048 bits, but signing needs RSA of 3072"),
        (private_pem(ec.generate_private_key(ec.SECP256R1())), None, "signing needs RSA"),
        (private_pem(key, b"secret"), None, "cannot load"),
        (private_pem(key, b"secret"), b"wrong", "cannot load"),
        (private_pem(key), b"needless", "cannot load"),
        (public_pem(key), None, "cannot load"),
        (b"", None, "cannot load"),
    ):
        with pytest.raises(IsoError, match=message) as caught:
            Signer(pem, passphrase)
        assert caught.value.code == "bad_key"


def test_public_keys_are_named_after_their_files(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    good, bad, absent = (tmp_path / name for name in ("team.pub", "bad.pub", "absent.pub"))
    good.write_bytes(public_pem(key))
    bad.write_bytes(private_pem(key))
    assert [public.name for public in load_public_keys([str(good)])] == ["team.pub"]
    for wrong in (bad, absent, tmp_path):
        with pytest.raises(IsoError) as caught:
            load_public_keys([str(good), str(wrong)])
        assert (caught.value.code, str(wrong) in caught.value.detail) == ("bad_key", True)


# Discs that must not be used


@pytest.fixture
def image(source: Path, signer: Signer, tmp_path: Path) -> Path:
    build(str(source), GUEST_TOOLS, signer, str(tmp_path / "guest-tools.iso"))
    return tmp_path / "guest-tools.iso"


def why_unusable(path: Path, *signers: Signer) -> str:
    with pytest.raises(IsoError) as caught:
        read(str(path), [signer.public_key for signer in signers])
    assert str(path) in caught.value.detail
    return caught.value.code


def disc_of(path: Path, *files: tuple[str, bytes]) -> Path:
    """An image of exactly these files."""
    with new_disc() as writer, open(path, "wb") as stream:
        for name, data in files:
            writer.add_bytes(name, data)
        writer.write(stream)
    return path


def manifest_of(*files: tuple[str, bytes]) -> bytes:
    entries = (FileEntry(name, len(data), hashlib.sha256(data).hexdigest(), False) for name, data in files)
    return render(Manifest("guest-tools", "2.0.0", GUEST_TOOLS.platforms, tuple(entries)))


def test_a_missing_disc_is_told_from_an_empty_one_and_from_other_files(
    signer: Signer, tmp_path: Path
) -> None:
    path = tmp_path / "x.iso"
    assert why_unusable(path, signer) == "missing"
    path.write_bytes(b"")
    assert why_unusable(path, signer) == "empty"
    for data in (b"hello", bytes(40000), b"PK\3\4" + bytes(100_000), random.Random(2).randbytes(100_000)):
        path.write_bytes(data)
        assert why_unusable(path, signer) == "not_iso"
    assert why_unusable(tmp_path, signer) == "unreadable"


def test_a_disc_cut_short_anywhere_is_noticed(image: Path, signer: Signer) -> None:
    data = image.read_bytes()
    lengths = [*range(0, len(data), 2048), len(data) - 1, 32768 + 100, 1]
    codes = {}
    for length in lengths:
        image.write_bytes(data[:length])
        codes[length] = why_unusable(image, signer)
    assert {code for length, code in codes.items() if length >= 17 * 2048} == {"truncated"}
    assert {code for length, code in codes.items() if 0 < length < 17 * 2048} == {"not_iso"}


def test_a_disc_that_is_no_component_is_told_so(signer: Signer, tmp_path: Path) -> None:
    path = disc_of(tmp_path / "x.iso", ("payload/install.sh", SCRIPT))
    assert why_unusable(path, signer) == "no_manifest"
    disc_of(path, (f"{MANIFEST_PATH}/nested", b""))
    assert why_unusable(path, signer) == "no_manifest"


def test_a_foreign_disc_without_rock_ridge_is_no_component(signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    path = tmp_path / "foreign.iso"
    command = [
        "bsdtar",
        "--create",
        "--format=iso9660",
        "--options=!rockridge,!joliet",
        f"--file={path}",
        "file",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert why_unusable(path, signer) == "no_manifest"


def test_a_disc_without_signature_is_unsigned(signer: Signer, tmp_path: Path) -> None:
    files = ("payload/install.sh", SCRIPT)
    path = disc_of(tmp_path / "x.iso", (MANIFEST_PATH, manifest_of(files)), files)
    assert why_unusable(path, signer) == "unsigned"
    disc_of(path, (MANIFEST_PATH, manifest_of(files)), (SIGNATURE_PATH, b""), files)
    assert why_unusable(path, signer) == "unsigned"


def test_a_disc_signed_with_another_key_is_refused(image: Path, signer: Signer, stranger: Signer) -> None:
    assert why_unusable(image, stranger) == "wrong_key"
    assert why_unusable(image) == "wrong_key"
    assert isinstance(read(str(image), [stranger.public_key, signer.public_key]), ComponentDisc)


def test_a_manifest_changed_after_signing_is_refused(image: Path, signer: Signer) -> None:
    data = image.read_bytes()
    assert data.count(b'"version":"2.0.0"') == 1
    image.write_bytes(data.replace(b'"version":"2.0.0"', b'"version":"2.0.1"'))
    assert why_unusable(image, signer) == "wrong_key"


def test_a_signed_manifest_that_is_not_valid_is_refused(signer: Signer, tmp_path: Path) -> None:
    for data in (b"{}", b"not json", manifest_of(("../install.sh", SCRIPT)), b""):
        path = disc_of(tmp_path / "x.iso", (MANIFEST_PATH, data), (SIGNATURE_PATH, signer.sign(data)))
        assert why_unusable(path, signer) == "bad_manifest"


def test_a_manifest_or_signature_out_of_bounds_is_not_even_read(signer: Signer, tmp_path: Path) -> None:
    huge = bytes(4 * 1024 * 1024 + 1)
    path = disc_of(tmp_path / "x.iso", (MANIFEST_PATH, huge), (SIGNATURE_PATH, b"x"))
    assert why_unusable(path, signer) == "damaged"
    disc_of(path, (MANIFEST_PATH, b"{}"), (SIGNATURE_PATH, bytes(2049)))
    assert why_unusable(path, signer) == "damaged"


def test_a_file_that_the_manifest_names_must_be_there(signer: Signer, tmp_path: Path) -> None:
    here, gone = ("payload/install.sh", SCRIPT), ("payload/data/gone", b"x")
    data = manifest_of(here, gone)
    path = disc_of(tmp_path / "x.iso", (MANIFEST_PATH, data), (SIGNATURE_PATH, signer.sign(data)), here)
    assert why_unusable(path, signer) == "file_absent"
    inside = ("payload/data/gone/x", b"x")
    disc_of(path, (MANIFEST_PATH, data), (SIGNATURE_PATH, signer.sign(data)), here, inside)
    assert why_unusable(path, signer) == "file_absent"


def test_a_file_must_be_what_the_manifest_says(image: Path, signer: Signer, tmp_path: Path) -> None:
    data = image.read_bytes()
    assert data.count(SCRIPT) == 1
    image.write_bytes(data.replace(SCRIPT, SCRIPT.replace(b"installing", b"1nstalling")))
    with pytest.raises(IsoError, match=r"payload/install\.sh has digest") as caught:
        read(str(image), [signer.public_key])
    assert caught.value.code == "file_differs"
    manifest = manifest_of(("payload/install.sh", SCRIPT))
    files = (
        (MANIFEST_PATH, manifest),
        (SIGNATURE_PATH, signer.sign(manifest)),
        ("payload/install.sh", SCRIPT[1:]),
    )
    with pytest.raises(
        IsoError, match=f"has {len(SCRIPT) - 1} bytes, but its manifest says {len(SCRIPT)}"
    ) as caught:
        read(str(disc_of(tmp_path / "x.iso", *files)), [signer.public_key])
    assert caught.value.code == "file_differs"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_disc_is_refused_or_still_whole_and_nothing_worse(
    seed: int, image: Path, signer: Signer
) -> None:
    chance = random.Random(seed)
    good = read(str(image), [signer.public_key])
    original = image.read_bytes()
    data = bytearray(original)
    used = [position for position in range(32768, len(data)) if data[position]]
    for _change in range(chance.choice([1, 3, 20])):
        data[chance.choice(used)] = chance.choice([0, 255, chance.randrange(256)])
    image.write_bytes(data)
    try:
        assert read(str(image), [signer.public_key]).manifest == good.manifest
    except IsoError as error:
        assert str(image) in error.detail
    finally:
        image.write_bytes(original)


def test_reading_takes_little_memory(signer: Signer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    put(source, "install.sh", SCRIPT)
    with open(source / "big", "wb") as stream:
        stream.truncate(64 * 1024 * 1024)
    tracemalloc.start()
    build(str(source), GUEST_TOOLS, signer, str(tmp_path / "x.iso"))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
