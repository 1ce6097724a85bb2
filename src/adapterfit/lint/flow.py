"""Follow values through a script, statement by statement, without running anything.

Every branch is gone through once, a function's body at each of its calls, and a loop's body once, or twice where a model
goes from one round into the next; what is not certain at the end of a branch is forgotten (see `values.join`). A function that nothing in the file calls is gone through by
itself, with its parameters unknown unless an annotation or a default tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import libcst as cst

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.lint import known, statements
from adapterfit.lint.evaluate import evaluate
from adapterfit.lint.scope import Scope
from adapterfit.lint.trace import Arms, Call, Event, Place, Read, Trace
from adapterfit.lint.tree import children, dotted
from adapterfit.lint.values import UNKNOWN, Constant, Function, Model, Named, Object, Table, Value, join

#: Functions inside functions inside … that are gone through at a call.
_CALL_DEPTH = 6


class Outline(NamedTuple):
    """What is known of a script beforehand: names that are called anywhere, names declared global, and its generators."""

    called: frozenset[str]
    shared: frozenset[str]
    generators: frozenset[cst.CSTNode]


def outline(module: cst.Module) -> Outline:
    """Look a script over."""
    called: set[str] = set()
    shared: set[str] = set()
    generators: set[cst.CSTNode] = set()
    found: list[tuple[cst.CSTNode, cst.CSTNode]] = [(module, module)]
    while found:
        node, owner = found.pop()
        if isinstance(node, cst.Call):
            called.add(dotted(node.func).rpartition(".")[2])
        elif isinstance(node, (cst.Global, cst.Nonlocal)):
            shared |= {item.name.value for item in node.names}
        elif isinstance(node, cst.Yield):
            generators.add(owner)
        inner = node if isinstance(node, (cst.FunctionDef, cst.Lambda)) else owner
        found += [(part, inner) for part in children(node)]
    return Outline(frozenset(called), frozenset(shared), frozenset(generators))


def follow(module: cst.Module) -> Trace:
    """What the script does.

    Classes take a second run: what one method puts on `self` another may read, in whatever order they stand.

    Raises:
        CannotCheck: It is too complex.
    """
    try:
        found = outline(module)
        first = Flow(module, found, {})
        attributes = first.scope.attributes
        return Flow(module, found, attributes).trace if attributes else first.trace
    except RecursionError as error:
        raise CannotCheck("it is nested too deeply") from error


class Flow:
    """The state of going through one script. `trace` is what comes out."""

    def __init__(self, module: cst.Module, found: Outline, attributes: Mapping[tuple[str, str], Value]) -> None:
        """Go through `module`; `attributes` are those of its classes, from an earlier run."""
        self.trace = Trace()
        self.scope = Scope(found.shared, attributes)
        self.place = Place(None, None)
        self.arms: Arms = ()
        self.within: tuple[str, ...] = ()
        self.context: tuple[cst.CSTNode, ...] = ()
        self.returned: list[Value] = []
        self.methods: dict[tuple[str, str], Function] = {}
        self.pending: list[tuple[cst.FunctionDef, str]] = []
        self._outline = found
        self._stack: list[cst.CSTNode] = []
        self._reached: set[cst.CSTNode] = set()
        self._steps = 0
        self._branches: dict[tuple[cst.CSTNode, ...], int] = {}
        self.block(module.body)
        self._finish()

    @property
    def now(self) -> int:
        """How many events there are so far."""
        return len(self.trace.events)

    def note(self, event: Event) -> None:
        """Something happens."""
        self.trace.events.append(event)

    def read(self, model: Model, attribute: str, node: cst.BaseExpression) -> None:
        """A model is used."""
        self.note(Read(self.now, model, attribute, node, self.place))

    def branch(self, node: cst.CSTNode) -> int:
        """The number of a branch. It is the same in every round of a loop: rounds that take other arms are not told apart."""
        return self._branches.setdefault((node, *self.context), len(self._branches))

    def mentions(self, node: cst.CSTNode) -> frozenset[str]:
        """The names of libraries that an expression uses."""
        return frozenset(statements.mentions(self, node, set()))

    def method(self, owner: str, name: str) -> Function | None:
        """A method of a class of this file, its own or inherited from another."""
        found = (self.methods.get((each, name)) for each in self.scope.lineage(owner))
        return next((method for method in found if method is not None), None)

    def step(self, cost: int = 1) -> None:
        """Count one step, or one that costs more.

        Raises:
            CannotCheck: There were too many.
        """
        self._steps += cost
        if self._steps > limits.LINT_STEPS:
            raise CannotCheck(f"it is too complex: following its values takes more than {limits.LINT_STEPS:,} steps")

    def block(self, body: Sequence[cst.CSTNode]) -> bool:
        """Go through statements. Returns whether the end is reached (no return, raise, continue or break)."""
        outer, block = self.arms, tuple(body)
        try:
            return all(self._statement(node, block) for node in block)
        finally:
            self.arms = outer

    def _statement(self, node: cst.CSTNode, block: tuple[cst.CSTNode, ...]) -> bool:
        self.step()
        if isinstance(node, cst.SimpleStatementLine):
            return all(self._small(part, node, block) for part in node.body)
        if isinstance(node, cst.BaseSmallStatement):  # behind the colon, as in `if done: return`
            return self._small(node, None, block)
        before, self.place = self.place, self._place(None, None, block)
        ends = statements.compound(self, node)
        self.place = before
        return ends

    def _small(
        self, node: cst.BaseSmallStatement, line: cst.SimpleStatementLine | None, block: tuple[cst.CSTNode, ...]
    ) -> bool:
        self.place = self._place(node, line, block)
        return statements.small(self, node)

    def _place(
        self, node: cst.BaseSmallStatement | None, line: cst.SimpleStatementLine | None, block: tuple[cst.CSTNode, ...]
    ) -> Place:
        scope = self._stack[-1] if self._stack else None
        return Place(node, line, block, self.within, self.arms, scope, self.context)

    # ------------------------------------------------------------------------------------------ functions

    def _finish(self) -> None:
        """Go through the functions that nothing calls, then through those that no call reached."""
        for only_uncalled in (True, False):
            for node, owner in list(self.pending):
                called = node.name.value in self._outline.called and not node.name.value.startswith("__")
                if node not in self._reached and not (only_uncalled and called):
                    self.run(Function(node, owner), None)
                    self.place = Place(None, None)

    def run(self, function: Function, call: Call | None) -> Value:
        """Go through a function's body, once for each call. Returns what it gives back."""
        node = function.node
        if (
            not isinstance(node, (cst.FunctionDef, cst.Lambda))
            or node in self._stack
            or len(self._stack) >= _CALL_DEPTH
        ):
            return UNKNOWN
        self._reached.add(node)
        with self._inside(node, call):
            first = self._parameters(node.params, function.owner, call)
            if isinstance(node, cst.Lambda):
                return evaluate(self, node.body)
            if self.block(node.body.body):
                self.returned.append(Constant(None))
            if first:
                self.scope.keep(function.owner, first)
            return UNKNOWN if node.asynchronous or node in self._outline.generators else _either(self.returned)

    @contextlib.contextmanager
    def _inside(self, node: cst.CSTNode, call: Call | None) -> Iterator[None]:
        kept = self.scope.env, self.scope.globals, self.returned, self.place, self.within, self.arms, self.context
        if self.scope.globals is None:
            self.scope.globals = self.scope.env
        self.scope.env, self.returned = {}, []
        self.context = (*self.context, call.node if call is not None else node)
        self._stack.append(node)
        try:
            yield
        finally:
            self._stack.pop()
            self.scope.env, self.scope.globals, self.returned, self.place, self.within, self.arms, self.context = kept

    def _parameters(self, parameters: cst.Parameters, owner: str, call: Call | None) -> str:
        """Bind the parameters. Returns the name of the first one of a method, empty for others."""
        listed = [*parameters.posonly_params, *parameters.params]
        itself = listed.pop(0).name.value if owner and listed else ""
        if itself:
            self.scope.bind(itself, Object(owner, Table(whole=False)))
        given = [argument.value for argument in call.positional] if call is not None else []
        for at, param in enumerate([*listed, *parameters.kwonly_params]):
            name = param.name.value
            value = evaluate(self, param.default) if param.default is not None else UNKNOWN
            if call is not None and name in call.keywords:
                value = call.keywords[name].value
            elif at < min(len(given), len(listed)):
                value = given[at]
            elif call is not None and not call.whole:
                value = UNKNOWN
            self.scope.bind(name, self._annotated(param) if value in (UNKNOWN, Constant(None)) else value)
        for star in (parameters.star_arg, parameters.star_kwarg):
            if isinstance(star, cst.Param):
                self.scope.bind(star.name.value, UNKNOWN)
        return itself

    def _annotated(self, param: cst.Param) -> Value:
        if param.annotation is None:
            return UNKNOWN
        node = param.annotation.annotation
        name = node.evaluated_value if isinstance(node, cst.SimpleString) else dotted(node)
        value = self.scope.lookup(name) if isinstance(name, str) else UNKNOWN
        return known.of_annotation(value.name) if isinstance(value, Named) else UNKNOWN


def _either(values: Sequence[Value]) -> Value:
    """What holds for a value that is one of these."""
    result = values[0] if values else UNKNOWN
    for value in values[1:]:
        result = join(result, value)
    return result
