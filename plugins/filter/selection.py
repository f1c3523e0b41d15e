# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters about VMs, campaigns and discs; documented in the YAML files beside this one."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.isolift.vm.plugins.module_utils import report
from ansible_collections.isolift.vm.plugins.module_utils.history import ids_over
from ansible_collections.isolift.vm.plugins.module_utils.selection import (
    Candidate,
    SelectionError,
    select,
    with_media,
)


def select_vms(
    nodes: Mapping[str, Sequence[Mapping[str, Any]]],
    patterns: Sequence[str] = (),
    excludes: Sequence[str] = (),
) -> list[dict[str, str]]:
    """See select_vms.yml."""
    if isinstance(patterns, str) or isinstance(excludes, str):
        raise AnsibleFilterError(
            "select_vms: patterns and excludes are lists of names, UUIDs or globs, not text"
        )
    try:
        return [asdict(candidate) for candidate in select(nodes, patterns, excludes)]
    except SelectionError as error:
        raise AnsibleFilterError(str(error)) from error


def with_media_results(
    vms: Sequence[Mapping[str, str]], results: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """See with_media_results.yml."""
    return [asdict(candidate) for candidate in with_media([Candidate(**vm) for vm in vms], results)]


def by_node(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """See by_node.yml."""
    shares: dict[str, list[str]] = {}
    for row in rows:
        shares.setdefault(row["node"], []).append(row["vm"])
    return shares


def discs_left(results: Sequence[Mapping[str, Any]], ejections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """See discs_left.yml."""
    return report.discs_left(results, ejections)


def campaigns_over(
    found: Sequence[str], campaigns: Sequence[Mapping[str, Any]], grace_s: float = 3600
) -> list[str]:
    """See campaigns_over.yml."""
    return ids_over(found, campaigns, time.time(), float(grace_s))


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {
            "by_node": by_node,
            "campaigns_over": campaigns_over,
            "discs_left": discs_left,
            "select_vms": select_vms,
            "with_media_results": with_media_results,
        }
