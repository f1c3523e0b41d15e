# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark leaves behind: a table for people, a JSON file, and one last line for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from lab import paths

RESULTS = paths.REPOSITORY / ".cache" / "bench"
HYPERVISOR = ("libvirt-daemon", "qemu-system-x86")
BROKER = ("rabbitmq-server",)
_LIBRARIES = ("ansible-core", "pika")


@dataclass(frozen=True)
class Bar:
    """What a figure must not exceed or, if ``is_floor``, not fall below."""

    what: str
    value: float
    bound: float
    is_floor: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.bound if self.is_floor else self.value <= self.bound


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a heading: the first column to the left, all others to the right."""
    lines = [tuple(heading), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [
                first.ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
            ]
        )
        for first, *rest in lines
    )


def versions(run: Callable[[str], str], *packages: str) -> dict[str, str]:
    """The versions of Debian's packages, where ``run`` runs shell commands."""
    lines = run(f"dpkg-query --show {' '.join(packages)}").splitlines()
    return {package.partition(":")[0]: found for package, found in map(str.split, lines)}


def conclude(
    name: str,
    figures: Mapping[str, float],
    bars: Sequence[Bar],
    details: Mapping[str, Any],
    packages: Mapping[str, str],
) -> None:
    """Print how the bars stand and, as the last line, the figures; write all to ``.cache/bench/<name>.json``.

    A bar that is missed is told and no more. ``packages`` holds the `versions` of what was measured.
    """
    rows = [
        [
            item.what,
            _shown(item.value),
            f"{'≥' if item.is_floor else '≤'} {item.bound:g}",
            "met" if item.is_met else "missed",
        ]
        for item in bars
    ]
    print(table(["", "measured", "bar", ""], rows))
    RESULTS.mkdir(parents=True, exist_ok=True)
    body = {
        "benchmark": name,
        "machine": _machine(packages),
        "figures": figures,
        "bars": [{**asdict(item), "is_met": item.is_met} for item in bars],
        "details": details,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=2) + "\n")
    print("BENCH", name, *(f"{key}={_shown(value)}" for key, value in figures.items()), flush=True)


def _machine(packages: Mapping[str, str]) -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6,
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "packages": dict(packages),
    }


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
