# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what is wrong with a public key. Its documentation is in the YAML file beside this one."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.isolift.vm.plugins.module_utils.signature import SignatureError, parse_public_key


def key_problem(pem: str, name: str) -> str:
    """See key_problem.yml."""
    try:
        parse_public_key(pem.encode("utf-8", "surrogateescape"), name)
    except SignatureError as error:
        return error.detail
    return ""


class FilterModule:
    """The filter ``isolift.vm.key_problem``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"key_problem": key_problem}
