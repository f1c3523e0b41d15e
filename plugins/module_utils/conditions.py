# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions under which a VM may be upgraded: Jinja2 expressions over the facts that its agent sent.

The expressions come from the operator; the facts come from a guest. Facts are only ever values of variables: nothing in them
is taken for a template, and the sandbox keeps an expression from reaching anything but them.
"""

from __future__ import annotations

import traceback
from typing import Any, Callable, Sequence

from ansible.module_utils.compat.version import LooseVersion

try:
    from jinja2 import StrictUndefined, TemplateError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    JINJA2_ERROR: str | None = None
except ImportError:
    JINJA2_ERROR = traceback.format_exc()

from .text import printable
from .wire import Facts

_COMPARISONS: dict[str, Callable[[LooseVersion, LooseVersion], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


class ConditionError(Exception):
    """A condition that is not a valid expression; the text names it and what is wrong."""


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

    def judge(self, facts: Facts) -> str:
        """An empty text if ``facts`` meet all conditions, else the reason why not, safe to show."""
        for condition in self._conditions:
            reason = condition.judge(facts)
            if reason:
                return reason
        return ""


class _Condition:
    def __init__(self, environment: Any, expression: str) -> None:
        self._text = expression
        try:
            self._evaluate = environment.compile_expression(expression, undefined_to_none=False)
            self._names = sorted(
                meta.find_undeclared_variables(environment.parse("{{ (" + expression + ") }}"))
            )
        except (TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            # Beside the first: what Python says of the generated code, nested too deeply or with a number too long.
            raise ConditionError(f"condition {expression!r} is not a valid expression: {error}") from error

    def judge(self, facts: Facts) -> str:
        try:
            met = bool(self._evaluate(facts))
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            return printable(f"condition cannot be judged: {self._text}: {error}")
        if met:
            return ""
        known = ", ".join(f"{name}={facts[name]!r}" for name in self._names if name in facts)
        return printable(f"condition not met: {self._text}" + (f" ({known})" if known else ""))
