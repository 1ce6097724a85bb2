"""Edits that change as little of the text as can be: what stays, stays as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import libcst as cst

from adapterfit.lint.names import canonical
from adapterfit.lint.rule import Code, Edit
from adapterfit.lint.trace import Place
from adapterfit.lint.tree import dotted, walk

_NOWHERE = cst.Module([])


def span(code: Code, node: cst.CSTNode) -> tuple[int, int]:
    """Where an expression stands, with the parentheses around it."""
    start, end = code.script.span(node)
    before = "".join(map(_NOWHERE.code_for_node, getattr(node, "lpar", ())))
    after = "".join(map(_NOWHERE.code_for_node, getattr(node, "rpar", ())))
    return start - len(before), end + len(after)


def text(code: Code, node: cst.CSTNode) -> str:
    """An expression as it was written, with the parentheses around it."""
    start, end = span(code, node)
    return code.script.text[start:end]


def replaced(code: Code, node: cst.CSTNode, new: str) -> Edit:
    """Another text for an expression."""
    return Edit(*span(code, node), new)


def inserted(at: int, new: str) -> Edit:
    """More text at a place."""
    return Edit(at, at, new)


def with_keyword(code: Code, call: cst.Call, keyword: str, value: str) -> tuple[Edit, ...]:
    """A keyword argument more, or another value for the one that is there. Empty where that cannot be written."""
    present = next((arg for arg in call.args if arg.keyword is not None and arg.keyword.value == keyword), None)
    if present is not None:
        return (replaced(code, present.value, value),)
    if not call.args:
        return (inserted(code.script.span(call)[1] - 1, f"{keyword}={value}"),)
    last = call.args[-1]
    if isinstance(last.value, cst.GeneratorExp) and not last.value.lpar:
        return ()
    return _own_line(code, last, f"{keyword}={value}") or (inserted(span(code, last.value)[1], f", {keyword}={value}"),)


#: What may follow an argument on its line.
_REST = re.compile(r"(,?)([ \t]*(?:#[^\r\n]*)?)(?=\r|\n)")


def _own_line(code: Code, last: cst.Arg, new: str) -> tuple[Edit, ...]:
    """Where the last argument has its line for itself, a line for the new one below; comments stay with their line."""
    whole = code.script.text
    start, end = code.script.span(last)[0], span(code, last.value)[1]
    indent = whole[code.script.line_start(start) : start]
    rest = _REST.match(whole, end)
    if indent.strip() or not indent or rest is None:
        return ()
    line = f"{_newline(code)}{indent}{new}"
    if rest.group(1):
        return (inserted(rest.end(), f"{line},"),)
    return (inserted(end, ","), inserted(rest.end(), line)) if rest.group(2) else (inserted(end, f",{line}"),)


def without_argument(code: Code, call: cst.Call, arg: cst.Arg) -> Edit:
    """A call with one argument less, with the comma and space that went with it."""
    at = next(at for at, other in enumerate(call.args) if other is arg)
    if at > 0:
        return Edit(span(code, call.args[at - 1].value)[1], span(code, arg.value)[1], "")
    start = code.script.span(arg)[0]
    if len(call.args) > 1:
        return Edit(start, code.script.span(call.args[1])[0], "")
    return Edit(start, span(code, arg.value)[1], "")


def without_statement(code: Code, place: Place) -> Edit | None:
    """The text without a statement, if it has its line for itself. In a body of its own, `pass` stays."""
    if place.line is None or len(place.line.body) != 1 or place.statement is None:
        return None
    start, end = code.script.span(place.statement)
    if len(place.block) == 1:
        return Edit(start, end, "pass")
    whole = code.script.text
    first = code.script.line_start(start)
    if whole[first:start].strip():
        return None
    last = end
    while last < len(whole) and whole[last] not in "\r\n":
        last += 1
    after = 2 if whole[last : last + 2] == "\r\n" else 1
    return Edit(first, min(last + after, len(whole)), "")


def line_after(code: Code, place: Place, new: str) -> Edit | None:
    """A new line below a statement's, indented as it is."""
    if place.line is None:
        return None
    start, end = code.script.span(place.line)
    whole = code.script.text
    indent = whole[code.script.line_start(start) : start]
    if indent.strip():
        return None
    while end < len(whole) and whole[end] not in "\r\n":
        end += 1
    return Edit(end, end, f"{_newline(code)}{indent}{new}")


def moved_above(code: Code, place: Place, upper: cst.CSTNode, instead: Mapping[cst.Name, str]) -> tuple[Edit, ...]:
    """A statement's line, taken from where it is and put above another line of the same block.

    `instead`: names in it → what they are to be there.
    """
    gone = without_statement(code, place)
    if gone is None or gone.text or not isinstance(upper, cst.SimpleStatementLine):
        return ()
    line = code.script.text[gone.start : gone.end]
    for name, new in sorted(instead.items(), key=lambda item: code.script.span(item[0]), reverse=True):
        start, end = code.script.span(name)
        line = line[: start - gone.start] + new + line[end - gone.start :]
    at = code.script.line_start(code.script.span(upper)[0])
    return (inserted(at, line if line.endswith(("\n", "\r")) else line + _newline(code)), gone)


def name_of(code: Code, name: str) -> tuple[str, tuple[Edit, ...]] | None:
    """How something of a library is written in this file, and the edits that import it where it is not.

    None where its name already means something else here.
    """
    module, _, last = name.rpartition(".")
    found = list(_imports(code))
    for node in found:
        written = _as_imported(node, name, last)
        if written:
            return written, ()
    if last in bound(code):
        return None
    same = next((node for node in found if _extendable(node, module)), None)
    if same is not None:
        assert isinstance(same, cst.ImportFrom)
        assert not isinstance(same.names, cst.ImportStar)
        _, end = code.script.span(same.names[-1].asname or same.names[-1].name)
        return last, (Edit(end, end, f", {last}"),)
    line = f"from {_HOMES.get(name, module)} import {last}"
    return last, (_import_line(code, found, line),)


#: Where names live that `names.canonical` shortens.
_HOMES = {"safetensors.load_file": "safetensors.torch"}


def _imports(code: Code) -> Iterator[cst.CSTNode]:
    """The imports at the file's outermost level, in order."""
    for line in code.script.module.body:
        if isinstance(line, cst.SimpleStatementLine):
            yield from (node for node in line.body if isinstance(node, (cst.Import, cst.ImportFrom)))


def _as_imported(node: cst.CSTNode, name: str, last: str) -> str:
    aliases = getattr(node, "names", ())
    if isinstance(aliases, cst.ImportStar) or not isinstance(node, (cst.Import, cst.ImportFrom)):
        return ""
    for alias in aliases:
        local = alias.evaluated_alias or dotted(alias.name)
        if isinstance(node, cst.ImportFrom):
            if node.module and not node.relative and canonical(f"{dotted(node.module)}.{dotted(alias.name)}") == name:
                return local
        elif dotted(alias.name) == name.rpartition(".")[0]:
            return f"{local}.{last}"
    return ""


def _extendable(node: cst.CSTNode, module: str) -> bool:
    if not isinstance(node, cst.ImportFrom) or isinstance(node.names, cst.ImportStar) or node.relative:
        return False
    return node.module is not None and dotted(node.module) == module


def _import_line(code: Code, found: Sequence[cst.CSTNode], line: str) -> Edit:
    """Below the last import; a file without any has no name of a library, and so no hit."""
    whole = code.script.text
    _, end = code.script.span(found[-1]) if found else (0, 0)
    if not found:
        return Edit(0, 0, line + _newline(code))
    while end < len(whole) and whole[end] not in "\r\n":
        end += 1
    return Edit(end, end, _newline(code) + line)


def bound(code: Code) -> frozenset[str]:
    """Every name that is bound anywhere in the file, or that an import brings under another meaning."""
    names = set()
    for node in walk(code.script.module):
        if isinstance(node, (cst.AssignTarget, cst.AnnAssign, cst.For, cst.CompFor, cst.NamedExpr)):
            names |= {part.value for part in _names_in(node.target)}
        elif isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Param)):
            names.add(node.name.value)
        elif isinstance(node, cst.ImportAlias):
            names.add(node.evaluated_alias or dotted(node.name))
        elif isinstance(node, cst.AsName):
            names |= {part.value for part in _names_in(node.name)}
    return frozenset(names)


def _names_in(node: cst.CSTNode) -> Iterator[cst.Name]:
    return (part for part in walk(node) if isinstance(part, cst.Name))


def _newline(code: Code) -> str:
    return code.script.module.default_newline
