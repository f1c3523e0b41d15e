# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the benchmarks leave their figures, and how they print them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from lab import paths

_FOLDER = paths.REPOSITORY / ".cache" / "bench"


def save(name: str, figures: Mapping[str, Any]) -> None:
    """Write the figures to ``.cache/bench/<name>.json``."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


def show(rows: Iterable[tuple[str, object]]) -> None:
    """Print figures below each other."""
    for name, value in rows:
        print(f"  {name:<44} {_shown(value)}", flush=True)


def close(name: str, **figures: object) -> None:
    """Print a benchmark's last line."""
    print(f"BENCH {name} " + " ".join(f"{key}={_shown(value)}" for key, value in figures.items()), flush=True)


def _shown(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
