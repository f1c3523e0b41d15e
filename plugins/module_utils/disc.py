# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in and out of an ISO 9660 image: the one place that knows pycdlib.

Linux sees the names through Rock Ridge, Windows through Joliet; the plain ISO 9660 names are only numbers.
Interchange level 4 is used because it allows directories of any depth without relocating them.

An image depends on nothing but what is put in: the order is the caller's, modes are normalised, every date is
`FIXED_DATE`. Another version of pycdlib may lay the same files out differently.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import traceback
from typing import Any, BinaryIO, Iterator

from .manifest import digest

PYCDLIB_IMPORT_ERROR: str | None = None
try:
    import pycdlib
    from pycdlib.dates import DirectoryRecordDate, VolumeDescriptorDate
    from pycdlib.pycdlibexception import PyCdlibException, PyCdlibInvalidInput
except ImportError:
    PYCDLIB_IMPORT_ERROR = traceback.format_exc()

VOLUME_ID = "ISOLIFT"

FIXED_DATE = (2020, 1, 1)
"""The UTC date, at midnight, of everything on every disc."""

_SECTOR = 2048
_FIRST_DESCRIPTOR = 16 * _SECTOR
_DIRECTORY_MODE, _FILE_MODE, _EXECUTABLE_MODE = 0o040755, 0o100644, 0o100755
_JOLIET_NAME_LIMIT = 64  # pycdlib counts the bytes in UTF-8
_NOT_FOR_WINDOWS = re.compile(r'[<>:"|?*;]|[. ]$|^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)', re.IGNORECASE)


class IsoError(Exception):
    """A component ISO that cannot be built or must not be used; the detail names it and says what to do.

    :ivar code: a short stable word. Reading: ``missing``, ``unreadable``, ``empty``, ``not_iso``,
        ``truncated``, ``damaged``, ``no_manifest``, ``bad_manifest``, ``unsigned``, ``wrong_key``,
        ``file_absent``, ``file_differs``. Building: ``bad_source``, ``bad_name``, ``bad_description``,
        ``bad_dest``, ``cannot_write``. Both: ``bad_key``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@contextlib.contextmanager
def open_disc(path: str) -> Iterator[DiscReader]:
    """The image at ``path``, for reading.

    :raises IsoError: it cannot be read, is no ISO 9660 image, or not all of it is there.
    """
    with _open(path) as stream:
        image = pycdlib.PyCdlib()
        with _damage(path, "the image"):
            _check_volume(path, stream)
            stream.seek(0)
            size, sha256 = digest(stream)
            image.open_fp(stream)
        with contextlib.closing(image):
            yield DiscReader(path, image, size, sha256)


class DiscReader:
    """The files of an image by their Rock Ridge paths.

    :ivar size: of the image, in bytes.
    :ivar sha256: of the image.
    """

    def __init__(self, path: str, image: Any, size: int, sha256: str) -> None:
        self.size = size
        self.sha256 = sha256
        self._path = path
        self._image = image

    def length(self, name: str) -> int | None:
        """The size in bytes of the file ``name``; None if there is no such file.

        :raises IsoError: ``damaged``.
        """
        with _damage(self._path, name):
            try:
                record = self._image.get_record(rr_path="/" + name)
            except PyCdlibInvalidInput:  # so pycdlib says that there is none
                return None
            length: int | None = record.get_data_length() if record.is_file() else None
        return length

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The content of the file ``name``, which must be there.

        :raises IsoError: ``damaged``.
        """
        with _damage(self._path, name), self._image.open_file_from_iso(rr_path="/" + name) as stream:
            yield stream


@contextlib.contextmanager
def _damage(path: str, what: str) -> Iterator[None]:
    """Turn what pycdlib raises over malformed bytes into one error."""
    try:
        yield
    except (PyCdlibException, struct.error, ValueError, LookupError, OSError) as error:
        detail = f"{path}: cannot read {what} ({error}): copy or build it again"
        raise IsoError("damaged", detail) from error


def _open(path: str) -> BinaryIO:
    try:
        # A FIFO would be waited for, and a device has no size.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise IsoError("unreadable", f"{path} is not a regular file: give the path of the ISO file")
        return open(path, "rb")
    except FileNotFoundError as error:
        detail = f"{path} does not exist: check the path, or build it with component_iso"
        raise IsoError("missing", detail) from error
    except OSError as error:
        raise IsoError("unreadable", f"cannot read {path}: {error.strerror}") from error


def _check_volume(path: str, stream: BinaryIO) -> None:
    """Look at the primary volume descriptor: is this an ISO 9660 image, and is all of it there?"""
    size = os.fstat(stream.fileno()).st_size
    if size == 0:
        raise IsoError("empty", f"{path} has zero bytes: copy or build it again")
    stream.seek(_FIRST_DESCRIPTOR)
    descriptor = stream.read(_SECTOR)
    if len(descriptor) < _SECTOR or descriptor[:6] != b"\x01CD001":
        detail = f"{path} ({size} bytes) is not an ISO 9660 image: check the path, or copy or build it again"
        raise IsoError("not_iso", detail)
    (blocks,) = struct.unpack_from("<I", descriptor, 80)
    (block_size,) = struct.unpack_from("<H", descriptor, 128)
    needed = blocks * block_size
    if needed > size:
        detail = f"{path} has {size} bytes, but its volume needs {needed}: copy or build it again"
        raise IsoError("truncated", detail)


def windows_can_name(path: str) -> bool:
    """Whether Windows can show every name of this path, and Joliet can hold it."""
    return all(
        len(name.encode("utf-8")) <= _JOLIET_NAME_LIMIT and not _NOT_FOR_WINDOWS.search(name)
        for name in path.split("/")
    )


@contextlib.contextmanager
def new_disc() -> Iterator[DiscWriter]:
    """A new image. Add the files in a fixed order, then write it."""
    with _fixed_dates():
        image = pycdlib.PyCdlib()
        image.new(4, vol_ident=VOLUME_ID, app_ident_str=VOLUME_ID, joliet=3, rock_ridge="1.09")
        with contextlib.closing(image):
            yield DiscWriter(image)


class DiscWriter:
    """An image in the making. What Windows cannot name is left out of Joliet; Linux sees everything."""

    def __init__(self, image: Any) -> None:
        self._image = image
        self._count = 0
        # the ISO 9660 and the Joliet path of each directory
        self._directories: dict[str, tuple[str, str | None]] = {"": ("", "")}

    def add_file(self, path: str, source: str, executable: bool) -> None:
        """Put the file ``source`` at ``path`` on the disc. It is read when the image is written.

        :raises IsoError: ``cannot_write``.
        """
        mode = _EXECUTABLE_MODE if executable else _FILE_MODE
        with _limits():
            iso_path, joliet_path, name = self._place(path, ".;1")
            self._image.add_file(source, iso_path, name, joliet_path, mode)

    def add_bytes(self, path: str, data: bytes) -> None:
        """Put a file that holds ``data`` at ``path`` on the disc.

        :raises IsoError: ``cannot_write``.
        """
        with _limits():
            iso_path, joliet_path, name = self._place(path, ".;1")
            self._image.add_fp(io.BytesIO(data), len(data), iso_path, name, joliet_path, _FILE_MODE)

    def write(self, stream: BinaryIO) -> None:
        """Write the image.

        :raises IsoError: ``cannot_write``.
        """
        with _limits():
            self._image.write_fp(stream)

    def _place(self, path: str, suffix: str) -> tuple[str, str | None, str]:
        """(ISO 9660 path, Joliet path or None, Rock Ridge name) of a new entry."""
        parent, _slash, name = path.rpartition("/")
        iso_parent, joliet_parent = self._directory(parent)
        self._count += 1
        in_joliet = joliet_parent is not None and windows_can_name(name)
        joliet_path = f"{joliet_parent}/{name}" if in_joliet else None
        return f"{iso_parent}/{self._count:08d}{suffix}", joliet_path, name

    def _directory(self, path: str) -> tuple[str, str | None]:
        if path not in self._directories:
            iso_path, joliet_path, name = self._place(path, "")
            self._image.add_directory(iso_path, name, joliet_path, _DIRECTORY_MODE)
            self._directories[path] = (iso_path, joliet_path)
        return self._directories[path]


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Turn what pycdlib raises over files that it cannot put on an image into one error."""
    try:
        yield
    except (PyCdlibException, struct.error) as error:
        detail = (
            f"pycdlib cannot make the image ({error}): use pycdlib 1.22, or pack the files into an archive"
        )
        raise IsoError("cannot_write", detail) from error


@contextlib.contextmanager
def _fixed_dates() -> Iterator[None]:
    """Make pycdlib write `FIXED_DATE` wherever it would write the current time.

    pycdlib has no option for it, but all dates that it makes come from two methods, which add the time zone.
    """
    year, month, day = FIXED_DATE
    record = struct.pack("=BBBBBBb", year - 1900, month, day, 0, 0, 0, 0)
    volume = f"{year:04d}{month:02d}{day:02d}".encode("ascii") + b"0" * 8 + b"\x00"
    record_class: Any = DirectoryRecordDate
    volume_class: Any = VolumeDescriptorDate
    record_new, volume_new = record_class.new, volume_class.new

    def new_record_date(self: Any, _now: float) -> None:
        self.parse(record)

    def new_volume_date(self: Any, now: float) -> None:
        if now:
            self.parse(volume)
        else:  # zero stands for a date that is not set
            volume_new(self, now)

    record_class.new, volume_class.new = new_record_date, new_volume_date
    try:
        yield
    finally:
        record_class.new, volume_class.new = record_new, volume_new
