# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the lab is found on this machine, to show that nothing is left of what was taken down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import cgroups, mounts, network, paths, processes
from .errors import LabError
from .waiting import wait_until

_PATIENCE_S = 10.0
"""Seconds that the kernel gets to do away with the namespaces of processes that have ended."""

Traces = Mapping[str, list[str]]
"""What is found, by kind."""


def of_host(name: str) -> Traces:
    """Everything that bears the name of a host. Its network link is there for as long as its network namespace is."""
    place = paths.MACHINES / name
    folders = (paths.RUN, paths.MACHINES, paths.HOSTS)
    groups = [path for point in cgroups.hierarchies() for path in point.glob(f"isolift-lab-{name}*")]
    files = [path for folder in folders for path in folder.glob(f"*{name}*")]
    files += Path("/run/systemd/nspawn").glob(f"**/{name}*")
    return {
        "process": _processes(place),
        "mount": [str(point) for point in mounts.mounts_below(place)],
        "link": _links(f"vb-{name}"),
        "control group": [str(group) for group in groups],
        "file": [str(file) for file in files],
    }


def of_lab(links: Sequence[str] = ()) -> Traces:
    """Everything that belongs to the running lab as a whole, and which of ``links`` there are."""
    return {
        "process": _processes(paths.CACHE),
        "mount": [str(point) for point in mounts.mounts_below(paths.RUN)],
        "link": _links(*links),
        "file": [str(path) for path in (paths.RUN, paths.HOSTS, paths.INVENTORY) if path.exists()],
    }


def require_none(hosts: Sequence[str], links: Sequence[str] = ()) -> None:
    """Return if nothing is left of the lab, of its ``hosts`` and its ``links``.

    :raise LabError: something is, and does not go; the text names all of it.
    """

    def left() -> list[str]:
        found = [of_lab(links), *map(of_host, hosts)]
        return sorted({f"{kind} {one}" for traces in found for kind, some in traces.items() for one in some})

    try:
        wait_until(lambda: not left(), what="the last of the lab to go", timeout=_PATIENCE_S)
    except LabError as error:
        lines = "\n".join(f"  - {line}" for line in left())
        raise LabError(f"the lab was taken down, but this is left of it:\n{lines}") from error


def _processes(place: Path) -> list[str]:
    """The processes that were told of something below ``place``."""
    return [
        f"{pid}: {' '.join(words).strip()[:200]}"
        for pid, words in processes.ours()
        if any(_tells_of(place, word) for word in words)
    ]


def _tells_of(place: Path, word: str) -> bool:
    """Whether an argument is a path below ``place``, or sets something to one; not a script that has one in it."""
    before, path, _unused = word.partition(f"{place}/")
    return bool(path) and " " not in before


def _links(*names: str) -> list[str]:
    return [name for name in names if network.link_exists(name)]
