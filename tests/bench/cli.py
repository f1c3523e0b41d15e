# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import sys

from lab.errors import LabError
from lab.progress import Progress

from . import agent_idle, footprint, media


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the command line names and return the exit status: 0 measured, 1 not."""
    options = _parser().parse_args(arguments)
    try:
        if options.benchmark == "media":
            media.run(Progress(), domains=options.domains, rounds=options.rounds)
        elif options.benchmark == "agent":
            agent_idle.run(options.seconds)
        else:
            footprint.run(Progress(), count=options.vms, seconds=options.seconds)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    discs = benchmarks.add_parser("media", help="discs for many domains in one call, and in loops")
    discs.add_argument("--domains", type=_positive, default=50, help="how many domains")
    discs.add_argument("--rounds", type=_positive, default=6, help="how often everything is measured")
    daemons = benchmarks.add_parser("footprint", help="memory, processor time and wake-ups of the daemons")
    daemons.add_argument("--vms", type=_positive, default=100, help="how many VMs the relay has")
    daemons.add_argument("--seconds", type=_positive, default=60, help="how long the daemons are watched")
    agent = benchmarks.add_parser(
        "agent", help="the idle agent alone, on this machine with a port that is none"
    )
    agent.add_argument("--seconds", type=_positive, default=60, help="how long the agent is watched")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
