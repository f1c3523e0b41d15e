# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that takes text where a variable should be a list, as surveys give it. Its documentation is in the YAML file beside this one."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def as_list(value: Any, name: str, commas: bool = False) -> list[str]:
    """See as_list.yml."""
    if value is None:
        return []
    if isinstance(value, str):
        entries = (entry.strip() for entry in re.split(r"[\n,]" if commas else r"\n", value))
        return [entry for entry in entries if entry]
    if not isinstance(value, (list, tuple)):
        raise AnsibleFilterError(
            f"{name} is {value!r}: give a list, or text with one entry on each line{' or between commas' * commas}"
        )
    wrong = [entry for entry in value if not isinstance(entry, str) or not entry.strip()]
    if wrong:
        raise AnsibleFilterError(
            f"{name} has the entry {wrong[0]!r}: give text, quoted where YAML would read something else"
        )
    return list(value)


class FilterModule:
    """The filter ``isolift.vm.as_list``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"as_list": as_list}
