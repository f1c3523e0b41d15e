# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions under which a VM may be upgraded: Jinja2 expressions over the facts that its agent sent.

The expressions come from the operator; the facts come from a guest. Facts are only ever values of variables: nothing in them
is taken for a template, and the sandbox keeps an expression from reaching anything but them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Callable, Sequence

from ansible.module_utils.compat.version import LooseVersion

with suppress(ImportError):  # conditions are judged on the control node, where Ansible needs jinja2 itself
    from jinja2 import StrictUndefined, TemplateError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

from .text import printable
from .wire import Facts

KNOWN_FACTS = (
    "agent_version",
    "arch",
    "free_bytes",
    "installed_version",
    "kernel",
    "memory_bytes",
    "os_id",
    "os_version",
    "sessions",
    "uptime_s",
)
"""What a condition may look at: what agents say of their guests, and the component's installed version."""

_COMPARISONS: dict[str, Callable[[LooseVersion, LooseVersion], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


class ConditionError(Exception):
    """A condition that nobody can judge; the text names it and what is wrong."""


def _version_test(value: str, other: str, comparison: str = "==") -> bool:
    """The Jinja2 test ``is version('1.2', '>=')``, as in Ansible."""
    if not str(value) or not str(other):
        raise ValueError("version test: there is no version to compare")
    compare = _COMPARISONS.get(comparison)
    if compare is None:
        raise ValueError(f"version test: {comparison!r} is none of {', '.join(_COMPARISONS)}")
    return compare(LooseVersion(str(value)), LooseVersion(str(other)))


class Conditions:
    """A list of conditions, all of which must hold.

    :raises ConditionError: one of them is not an expression.
    """

    def __init__(self, expressions: Sequence[str]) -> None:
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        environment.tests["version"] = _version_test
        self._conditions = [_Condition(environment, expression) for expression in expressions]

    def require_known_facts(self) -> None:
        """Refuse what no agent sends, which would hold every VM until the deadline.

        :raises ConditionError: a condition looks at a fact that is none of `KNOWN_FACTS`.
        """
        for condition in self._conditions:
            unknown = [name for name in condition.names if name not in KNOWN_FACTS]
            if unknown:
                raise ConditionError(
                    f"condition {condition.text!r} looks at {', '.join(unknown)}, which no agent sends; "
                    f"the facts are {', '.join(KNOWN_FACTS)}"
                )

    def judge(self, facts: Facts) -> str:
        """An empty text if ``facts`` meet all conditions, else the reason why not, safe to show."""
        for condition in self._conditions:
            reason = condition.judge(facts)
            if reason:
                return reason
        return ""


class _Condition:
    """One expression: its ``text``, and the ``names`` of the variables that it looks at."""

    def __init__(self, environment: Any, expression: str) -> None:
        self.text = expression
        try:
            self._evaluate = environment.compile_expression(expression, undefined_to_none=False)
            named = meta.find_undeclared_variables(environment.parse("{{ (" + expression + ") }}"))
            self.names = sorted(named.difference(environment.globals))
        except (TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            # Beside the first: what Python says of the generated code, nested too deeply or with a number too long.
            raise ConditionError(f"condition {expression!r} is not a valid expression: {error}") from error

    def judge(self, facts: Facts) -> str:
        try:
            met = bool(self._evaluate(facts))
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            TypeError,
            ValueError,
        ) as error:
            return printable(f"condition cannot be judged: {self.text}: {str(error) or type(error).__name__}")
        if met:
            return ""
        known = ", ".join(f"{name}={facts[name]!r}" for name in self.names if name in facts)
        return printable(f"condition not met: {self.text}" + (f" ({known})" if known else ""))
