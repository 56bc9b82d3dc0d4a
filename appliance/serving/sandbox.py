"""The Jinja2 sandbox in which a model file's chat template runs.

The template is part of a downloaded file and may be hostile. Jinja2's sandbox keeps it from Python's internals, but not
from using up the machine: nested loops, ``'a' * 10**10``, ``10**10**10``, a string that doubles in a loop, a macro that
calls itself twice. Here every operation is bounded on its own before it runs, and counted:

1. loops, calls, filters, operators, literals and output report to a ``RenderMeter`` (steps, characters, CPU time);
2. what no chat template needs and cannot be bounded is not there (format, ljust, batch, lipsum, include, ...);
3. nothing is evaluated at compile time, where there is no meter.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping
from types import BuiltinMethodType, MethodType
from typing import Any, cast

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateAssertionError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace, _PassArg
from jinja2.visitor import NodeTransformer

from appliance.serving.meter import CHARS_PER_STEP, RenderLimitExceeded, RenderMeter

MAX_INT_BITS = 256
MAX_INDENT = 8

# fmt: off
_STRING_METHODS = frozenset((
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii",
    "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip",
    "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip",
    "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
))
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int",
    "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe",
    "select", "selectattr", "sort", "string", "title", "trim", "unique", "upper",
)
_QUICK_FILTERS = frozenset(("count", "d", "default", "first", "last", "length"))  # they do not go through their input
_TEXT_FILTERS = frozenset(("capitalize", "e", "escape", "lower", "safe", "string", "title", "trim", "upper"))
# fmt: on


class MeteredContext(Context):
    """A template context that carries its rendering's meter."""

    meter: RenderMeter

    def derived(self, locals: dict[str, Any] | None = None) -> MeteredContext:  # noqa: A002 - Jinja2's name
        context = cast("MeteredContext", super().derived(locals))
        context.meter = self.meter
        return context


@pass_context
def _finalize(context: MeteredContext, value: Any) -> str:
    return context.meter.text_of(value)


@pass_context
def _counted(context: MeteredContext, items: Iterable[Any]) -> Iterator[Any]:
    return context.meter.counted(items)


@pass_context
def _measured(context: MeteredContext, value: Any) -> Any:
    context.meter.measure(value)
    return value


@pass_context
def _concat(context: MeteredContext, parts: list[Any]) -> str:
    texts = [context.meter.text_of(part) for part in parts]
    context.meter.chars(sum(map(len, texts)))
    return "".join(texts)


@pass_context
def _join(context: MeteredContext, items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    meter = context.meter
    texts = []
    for item in meter.counted(items):
        part = context.environment.getitem(item, attribute) if attribute is not None else item
        texts.append(meter.text_of(part))
        meter.chars(len(d))
    return d.join(texts)


@pass_context
def _replace(context: MeteredContext, text: Any, old: str, new: str, count: int = -1) -> str:
    whole = context.meter.text_of(text)
    _guard_replace(context.meter, whole, old, new)
    return whole.replace(old, new, count)


@pass_context
def _indent(context: MeteredContext, text: Any, width: int = 4, first: bool = False, blank: bool = False) -> str:
    if not 0 <= width <= MAX_INDENT:
        raise SecurityError(f"indent takes at most {MAX_INDENT}")
    whole = context.meter.text_of(text)
    context.meter.chars(len(whole) + width * (whole.count("\n") + 1))
    lines = whole.split("\n")
    pad = " " * width
    rest = [pad + line if line or blank else line for line in lines[1:]]
    return "\n".join([pad + lines[0] if first else lines[0], *rest])


@pass_context
def _tojson(
    context: MeteredContext,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face's chat templates expect it: readable characters, no HTML escapes."""
    if indent is not None and not 0 <= indent <= MAX_INDENT:
        raise SecurityError(f"tojson takes an indent of at most {MAX_INDENT}")
    context.meter.measure(value, plain=True)
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    context.meter.chars(len(text))
    return text


def _guard_replace(meter: RenderMeter, text: str, old: str, new: str) -> None:
    meter.chars(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _metered(name: str) -> Callable[..., Any]:
    """One of Jinja2's own filters, its input and output counted. Those that take text get text of bounded size."""
    function = FILTERS[name]
    takes_text, is_quick = name in _TEXT_FILTERS, name in _QUICK_FILTERS
    passed = _PassArg.from_obj(function)

    @pass_context
    def run(context: MeteredContext, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter = context.meter
        meter.step()
        if isinstance(value, str):
            meter.step(len(value) // CHARS_PER_STEP)
        elif takes_text:
            value = meter.text_of(value)
        elif isinstance(value, Iterator):
            value = meter.counted(value)
        elif isinstance(value, Collection) and not is_quick:
            meter.step(len(value))
        if passed is _PassArg.context:
            args = (value, *args)
            value = context
        elif passed is _PassArg.eval_context:
            args = (value, *args)
            value = context.eval_ctx
        elif passed is _PassArg.environment:
            args = (value, *args)
            value = context.environment
        return meter.account(function(value, *args, **kwargs))

    return run


class _Instrument(NodeTransformer):
    """Rewrites the parsed template so that loops, literals, ``~`` and output pass through the meter."""

    def _wrap(self, node: nodes.Expr, name: str) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by Jinja2's visitor
        if node.recursive:
            raise TemplateAssertionError("recursive loops are not available", node.lineno)
        self.generic_visit(node)
        node.iter = self._wrap(cast("nodes.Expr", node.iter), "_counted")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        # Plain text counts too: a long one in a macro that is called often is work like any other.
        node.nodes = [
            nodes.Const(part.data, lineno=part.lineno, environment=part.environment)
            if isinstance(part, nodes.TemplateData)
            else part
            for part in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._wrap(nodes.List(node.nodes, lineno=node.lineno, environment=node.environment), "_concat")

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._wrap(node, "_measured")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._wrap(node, "_measured")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.ctx == "store" else self._wrap(node, "_measured")

    def _refuse(self, node: nodes.Node) -> nodes.Node:
        raise TemplateAssertionError("other templates cannot be loaded", node.lineno)

    visit_Include = visit_Import = visit_FromImport = visit_Extends = _refuse  # noqa: N815


class _GenerationTag(Extension):
    """``{% generation %}`` marks the assistant's part for training in Hugging Face's templates; here it is its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja2 declares it as an instance attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplateEnvironment(ImmutableSandboxedEnvironment):
    """Hugging Face's chat template dialect, metered. Render with ``render_metered`` only."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))
    context_class = MeteredContext

    def __init__(self, functions: MutableMapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # no constant folding: it has no meter
            finalize=_finalize,
            extensions=[LoopControlExtension, _GenerationTag],
        )
        self.filters = {name: _metered(name) for name in _FILTERS} | {
            "_counted": _counted,
            "_measured": _measured,
            "_concat": _concat,
            "join": _join,
            "replace": _replace,
            "indent": _indent,
            "tojson": _tojson,
        }
        self.globals = {"range": safe_range, "dict": dict, "namespace": Namespace, **functions}

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        return super()._generate(_Instrument().visit(source), name, filename, defer_init)

    def render_metered(self, template: Any, variables: dict[str, Any], meter: RenderMeter) -> str:
        """The rendered text. Raises whatever the template raises, and RenderLimitExceeded."""
        context = cast("MeteredContext", template.new_context(variables))
        context.meter = meter
        return "".join(template.root_render_func(context))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        if isinstance(obj, (int, float, bytes)):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("str.format is not available")
        return None

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = cast("MeteredContext", context).meter
        meter.step()
        if not self.is_safe_callable(obj):  # Jinja2 says the same, with the object's text of any size in the message
            raise SecurityError(f"a {type(obj).__name__} cannot be called here")
        if isinstance(obj, (BuiltinMethodType, MethodType)) and isinstance(obj.__self__, str):
            args = self._guard_string_method(meter, obj.__self__, obj.__name__, args)
        return meter.account(super().call(context, obj, *args, **kwargs))

    @staticmethod
    def _guard_string_method(meter: RenderMeter, text: str, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        meter.step(len(text) // CHARS_PER_STEP)
        if method == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
            _guard_replace(meter, text, args[0], args[1])
        elif method == "join" and args:
            items = []
            for item in meter.counted(args[0]):
                meter.chars(len(text) + (len(item) if isinstance(item, str) else 0))
                items.append(item)
            return (items,)
        return args

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        meter = cast("MeteredContext", context).meter
        meter.step()
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return _arithmetic(self.binop_table[operator], operator, left, right)
        if operator == "+":
            if isinstance(left, str) and isinstance(right, str):
                meter.chars(len(left) + len(right))
                return left + right
            return meter.account(self.binop_table[operator](left, right))
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
                    meter.chars(len(sequence) * max(times, 0))
            return meter.account(self.binop_table[operator](left, right))
        if isinstance(left, str):
            raise SecurityError(f"{operator} on text is not available")
        return self.binop_table[operator](left, right)


def _arithmetic(function: Callable[[Any, Any], Any], symbol: str, left: float, right: float) -> Any:
    if symbol == "**":
        size = abs(operator.index(right)) if isinstance(right, int) else 1
        if isinstance(left, int) and left.bit_length() * size > MAX_INT_BITS:
            raise RenderLimitExceeded("its numbers grow too large")
    result = function(left, right)
    if isinstance(result, int) and result.bit_length() > MAX_INT_BITS:
        raise RenderLimitExceeded("its numbers grow too large")
    return result
