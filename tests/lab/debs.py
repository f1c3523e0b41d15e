# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages, from the sources that this machine's own apt uses."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from .errors import LabError
from .shell import run

CODENAME = "bookworm"
_FIELDS = ("$(ORIGIN)", "$(CODENAME)", "$(REPO_URI)", "$(RELEASE)", "$(COMPONENT)")
# What decides how apt reaches its sources; the rest of its configuration stays on this machine.
_TRANSPORT = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries")
_UPDATE_SECONDS = 300

_updating = threading.Lock()
_updated = threading.Event()


def update_lists() -> None:
    """Let apt know what its sources hold today, once in this process: a new machine knows nothing, an old one packages that are gone.

    :raise LabError: apt cannot reach a source.
    """
    with _updating:
        if not _updated.is_set():
            run(["apt-get", "update", "--quiet=2"], timeout=_UPDATE_SECONDS)
            _updated.set()


def parse_sources(index_targets: str) -> list[str]:
    """One ``deb`` line per suite of Debian's own archive in ``index_targets`` (fields as in ``_FIELDS``)."""
    components: dict[tuple[str, str], list[str]] = {}
    for line in index_targets.splitlines():
        origin, codename, uri, suite, component = line.split("|")
        if origin == "Debian" and codename.startswith(CODENAME):
            components.setdefault((uri, suite), []).append(component)
    return [f"deb {uri} {suite} {' '.join(names)}" for (uri, suite), names in components.items()]


def debian_sources() -> list[str]:
    """This machine's Debian sources as ``deb`` lines; those of others are left out.

    :raise LabError: apt knows none.
    """
    targets = run(["apt-get", "indextargets", "--format", "|".join(_FIELDS), "Created-By: Packages"])
    sources = parse_sources(targets)
    if not sources:
        raise LabError(f"apt knows no source of Debian 12 ({CODENAME}): add one to /etc/apt")
    return sources


def transport_options() -> list[str]:
    """The apt options by which this machine reaches its sources (proxies, checks of dates), each on a line."""
    dump = run(["apt-config", "dump", "--no-empty"])
    return [line for line in dump.splitlines() if line.startswith(_TRANSPORT)]


def dependency(package: str) -> str:
    """The first package that the metapackage ``package`` depends on.

    :raise LabError: apt does not know ``package``, or it depends on nothing.
    """
    for line in run(["apt-cache", "depends", "--important", package]).splitlines():
        kind, _unused, name = line.strip().partition(": ")
        if kind == "Depends":
            return name
    raise LabError(f"{package} depends on no package: is it in a source that /etc/apt names?")


def unpack(packages: Iterable[str], directory: Path) -> None:
    """Download ``packages`` and unpack them, without installing, into the new directory ``directory``."""
    archives = directory.with_name(directory.name + ".debs")
    archives.mkdir(parents=True)
    directory.mkdir()
    # As root: apt's own user cannot write below a private home.
    run(["apt-get", "download", "-o", "APT::Sandbox::User=root", *packages], cwd=archives, timeout=300)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg-deb", "--extract", archive, directory])
