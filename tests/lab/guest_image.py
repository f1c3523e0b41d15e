# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' kernel and initramfs.

The base (busybox, Python, kernel modules, init) is built once and kept by the digest of its recipe. The agent comes
in a second archive behind it, so that a new agent costs no new base.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from . import debs, guest_python, kernel_modules, mounts, paths
from .cpio import CpioWriter
from .errors import LabError
from .progress import Progress
from .shell import run

_KERNEL = "linux-image-cloud-amd64"
_GUEST_FILES = paths.SOURCES / "guest"
_MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp")
_DIRECTORIES = (*_MOUNT_POINTS, "bin", "opt", "root", "usr/lib/isolift", "var/lib")
_BUILD_MIB = 400
_AGENT_FILES = paths.REPOSITORY / "roles" / "guest_agent" / "files"
_AGENT = "usr/lib/isolift/isolift-agent.pyz"


@dataclass(frozen=True)
class GuestImage:
    """What a domain boots."""

    kernel: Path
    base: Path


def recipe_digest() -> str:
    """Changes whenever the built base would."""
    digest = hashlib.sha256()
    builders = [paths.SOURCES / name for name in ("guest_image.py", "guest_python.py", "kernel_modules.py")]
    sources = [path for path in sorted(_GUEST_FILES.rglob("*")) if path.is_file()]
    for path in [*builders, *sources]:
        digest.update(str(path.relative_to(paths.SOURCES)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def ensure_image(progress: Progress) -> GuestImage:
    """Return the guests' image, built first if the cache has none.

    :raise LabError: it cannot be built.
    """
    directory = _directory()
    image = GuestImage(kernel=directory / "vmlinuz", base=directory / "base.cpio")
    if not directory.is_dir():
        progress.say("guests' image: building (once)")
        debs.update_lists()
        _build(directory)
        progress.say("guests' image: built")
    return image


def disk_mib_needed() -> int:
    """MiB that building takes; 0 when the cache has it."""
    return 0 if _directory().is_dir() else _BUILD_MIB


def build_agent(target: Path) -> None:
    """Build the guest agent's zipapp at ``target`` from this checkout.

    :raise LabError: it cannot be built.
    """
    run([sys.executable, _AGENT_FILES / "build_zipapp.py", _AGENT_FILES / "isolift_agent", target])


def write_initramfs(image: GuestImage, agent: Path, target: Path) -> None:
    """Write the base and, behind it, the zipapp ``agent`` to ``target``."""
    with target.open("wb") as stream:
        with image.base.open("rb") as base:
            shutil.copyfileobj(base, stream)
        layer = CpioWriter(stream)
        layer.file(_AGENT, agent.read_bytes())
        layer.close()


def _directory() -> Path:
    return paths.CACHE / f"guest-{recipe_digest()}"


def _build(directory: Path) -> None:
    work = directory.with_name("guest.partial")
    mounts.remove_tree(work)
    unpacked, root, result = work / "unpacked", work / "root", work / "result"
    for path in (root, result):
        path.mkdir(parents=True)
    debs.unpack([debs.dependency(_KERNEL), "busybox-static", *guest_python.PACKAGES], unpacked)
    _populate(unpacked, root)
    with (result / "base.cpio").open("wb") as stream:
        archive = CpioWriter(stream)
        archive.tree(root)
        archive.close()
    shutil.copyfile(_only(unpacked / "boot", "vmlinuz-*"), result / "vmlinuz")
    for outdated in paths.CACHE.glob("guest-*"):
        mounts.remove_tree(outdated)
    result.rename(directory)
    mounts.remove_tree(work)


def _populate(unpacked: Path, root: Path) -> None:
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    guest_python.install(unpacked, root)
    shutil.copy(unpacked / "bin" / "busybox", root / "bin" / "busybox")
    for applet in run([root / "bin" / "busybox", "--list"]).split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    shutil.copytree(_GUEST_FILES, root, dirs_exist_ok=True)
    modules = kernel_modules.files_in_load_order(unpacked / "lib" / "modules")
    target = root / "lib" / "modules"
    target.mkdir()
    for module in modules:
        shutil.copyfile(module, target / module.name)
    order = "".join(f"/lib/modules/{module.name}\n" for module in modules)
    (root / "lib" / "isolift" / "modules").write_text(order)


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise LabError(f"{directory} should hold one {pattern}, but holds {len(found)}")
    return found[0]
