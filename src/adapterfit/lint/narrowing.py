"""What is known where a condition holds, or does not: `isinstance(model, PeftModel)`, `hasattr(model, …)`.

Where what is known says that a branch is never taken, nothing is known in it: no rule is to fire there.
"""

from __future__ import annotations

import dataclasses

import libcst as cst

from adapterfit.lint import known
from adapterfit.lint.scope import Scope
from adapterfit.lint.tree import dotted
from adapterfit.lint.values import UNKNOWN, Model, Named, Value


def narrow(scope: Scope, test: cst.BaseExpression, *, holds: bool) -> None:
    """Bind anew what a condition tells about."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        narrow(scope, test.expression, holds=not holds)
    elif isinstance(test, cst.BooleanOperation) and isinstance(test.operator, cst.And if holds else cst.Or):
        narrow(scope, test.left, holds=holds)
        narrow(scope, test.right, holds=holds)
    elif isinstance(test, cst.Call) and len(test.args) == 2 and dotted(test.args[0].value):
        _narrow_to(scope, test, dotted(test.args[0].value), holds=holds)


def _narrow_to(scope: Scope, test: cst.Call, name: str, *, holds: bool) -> None:
    value = scope.lookup(name)
    if dotted(test.func) == "isinstance":
        asked = _asked(scope, test.args[1].value)
        if asked is not None:
            scope.bind(name, _isinstance(value, asked, holds=holds))
    elif dotted(test.func) == "hasattr" and isinstance(value, Model) and not holds:
        scope.bind(name, UNKNOWN)


def _asked(scope: Scope, classes: cst.BaseExpression) -> Model | None:
    """The model that a class, or one of several, stands for."""
    parts = [element.value for element in classes.elements] if isinstance(classes, cst.Tuple) else [classes]
    for part in parts:
        value = scope.lookup(dotted(part)) if dotted(part) else UNKNOWN
        found = known.of_annotation(value.name) if isinstance(value, Named) else UNKNOWN
        if isinstance(found, Model):
            return found if len(parts) == 1 else dataclasses.replace(found, wrapped=None)
    return None


def _isinstance(value: Value, asked: Model, *, holds: bool) -> Value:
    if not isinstance(value, Model):
        return asked if holds and asked.wrapped else UNKNOWN if not holds else value
    if value.wrapped is None:
        return dataclasses.replace(value, wrapped=asked.wrapped) if holds else UNKNOWN
    return value if value.wrapped is holds else UNKNOWN
