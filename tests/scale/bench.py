# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a benchmark: ``python tests/scale/bench.py campaign --vms 10000``; ``make help`` lists all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """The command line; the exit status."""
    arguments = _parser().parse_args()

    from lab.errors import LabError
    from lab.interrupts import end_cleanly
    from scale import campaign, growth, peers, profiles, status
    from scale.conduct import Case

    end_cleanly()
    try:
        if arguments.name == "campaign":
            campaign.bench(Case(arguments.vms, arguments.per_node))
        elif arguments.name == "profile":
            profiles.bench(Case(arguments.vms, arguments.per_node))
        elif arguments.name == "growth":
            growth.bench(arguments.per_node)
        elif arguments.name == "status":
            status.bench(arguments.campaigns, arguments.vms)
        else:
            peers.bench(arguments.vms)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    verbs = parser.add_subparsers(dest="name", required=True)
    for name in ("campaign", "profile", "growth", "status", "peer"):
        verbs.add_parser(name)
    for name in ("campaign", "profile", "status", "peer"):
        verbs.choices[name].add_argument("--vms", type=int, required=True)
    for name in ("campaign", "profile", "growth"):
        verbs.choices[name].add_argument("--per-node", type=int, required=True)
    verbs.choices["status"].add_argument("--campaigns", type=int, required=True)
    return parser


if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    # This file's own directory would hide the package of the same name.
    sys.path[0:1] = [str(tests), str(tests.parent / ".cache" / "src")]
    sys.exit(main())
