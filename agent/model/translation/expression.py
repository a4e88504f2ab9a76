"""Expressions of Telemetry objects: a part of CEL, taken apart so that tunnels have only to work them out.

| there is | |
| --- | --- |
| literals | texts in either quotes, numbers, `true`, `false` |
| attributes | those of `ATTRIBUTES`, and entries `request.headers['name']` |
| operators | `||` `&&` `!` `==` `!=` `<` `<=` `>` `>=` `+` `in [..]` `a ? b : c` `( )` |
| functions | `has(x)`, `string(x)`, `int(x)`, `size(x)` |
| of a text | `contains`, `startsWith`, `endsWith`, `matches` |
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import re2

from protocols.telemetry_pb2 import Expression

O = Expression  # noqa: E741  (its operators are values of it)
_TYPES = ("name", "namespace", "workload", "cluster_id", "app", "version", "principal", "service_account")
_PEERS = tuple(f"{side}_peer.{name}" for side in ("upstream", "downstream") for name in _TYPES)
# Envoy's names (Attributes), and Istio's for the two ends (peer metadata).
ATTRIBUTES = frozenset(
    {
        *("request.path", "request.url_path", "request.query", "request.host", "request.method"),
        *("request.scheme", "request.protocol", "request.id", "request.useragent", "request.referer"),
        *("request.size", "request.total_size", "request.duration"),
        *("response.code", "response.flags", "response.grpc_status", "response.size", "response.total_size"),
        *("source.address", "source.port", "destination.address", "destination.port"),
        *("connection.mtls", "connection.requested_server_name", "connection.uri_san_peer_certificate"),
        *("upstream.address", "upstream.port", "route_name", "xds.route_name", "xds.cluster_name"),
        *_PEERS,
    }
)
ENTRIES = frozenset({"request.headers"})
_METHODS = {
    "contains": O.CONTAINS,
    "startsWith": O.STARTS_WITH,
    "endsWith": O.ENDS_WITH,
    "matches": O.MATCHES,
}
_FUNCTIONS = {"has": O.HAS, "string": O.STRING, "int": O.INT, "size": O.SIZE}
_LEVELS = (  # of binary operators, the loosest first
    {"||": O.OR},
    {"&&": O.AND},
    {"==": O.EQUAL, "!=": O.NOT_EQUAL, "<=": O.LESS_OR_EQUAL, ">=": O.GREATER_OR_EQUAL}
    | {"<": O.LESS, ">": O.GREATER, "in": O.IN},
    {"+": O.ADD},
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<number>\d+(?:\.\d+)?u?)"""
    r"""|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?P<sign>\|\||&&|[=!<>]=|[-!<>+?:()\[\],.])|(?P<end>$)|(?P<bad>.))"""
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_LONGEST, _DEEPEST = 4096, 32  # characters; operators within each other


class ExpressionError(ValueError):
    """What is wrong with an expression, and where."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Expression:
    """Take an expression apart. Raises ExpressionError for what is none, or cannot be worked out."""
    if len(text) > _LONGEST:
        raise ExpressionError(f"more than {_LONGEST} characters")
    parser = _Parser([*_tokens(text)])
    whole = parser.condition()
    parser.expect("end", "")
    return whole


def attributes(expression: Expression) -> Iterator[str]:
    """The attributes that it asks for."""
    if expression.operator in (O.ATTRIBUTE, O.ENTRY):
        yield expression.text
    for operand in expression.operands:
        yield from attributes(operand)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup == "bad" or match.lastgroup is None:
            raise ExpressionError(f"column {at + 1}: not understood: {text[at : at + 10].strip()!r}")
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
        if match.lastgroup == "end":
            return
        at = match.end()


class _Parser:
    """By recursive descent, with one token of foresight."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._next, self._depth = tokens, 0, 0

    def condition(self) -> Expression:
        """Whatever may stand alone."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("nested too deeply")
        value = self._binary(0)
        if self._take("sign", "?"):
            then = self.condition()
            self.expect("sign", ":")
            value = O(operator=O.CONDITION, operands=[value, then, self.condition()])
        self._depth -= 1
        return value

    def expect(self, kind: str, text: str) -> None:
        if not self._take(kind, text):
            raise self._error(f"{text or 'the end'} is expected")

    def _binary(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        value = self._binary(level + 1)
        while (operator := _LEVELS[level].get(self._token.text)) and self._token.kind in ("sign", "name"):
            self._next += 1
            others = self._list() if operator == O.IN else [self._binary(level + 1)]
            value = O(operator=operator, operands=[value, *others])
        return value

    def _list(self) -> list[Expression]:
        self.expect("sign", "[")
        return self._operands("]")

    def _operands(self, end: str) -> list[Expression]:
        found: list[Expression] = []
        while not self._take("sign", end):
            if found:
                self.expect("sign", ",")
            found.append(self.condition())
        return found

    def _unary(self) -> Expression:
        if self._take("sign", "!"):
            return O(operator=O.NOT, operands=[self._unary()])
        if self._take("sign", "-"):
            number = self._primary()
            if number.operator != O.NUMBER:
                raise self._error("- belongs before a number")
            return O(operator=O.NUMBER, number=-number.number)
        value = self._primary()
        while self._take("sign", "."):
            value = self._method(self._word(), value)
        return value

    def _primary(self) -> Expression:
        token = self._token
        if self._take("sign", "("):
            value = self.condition()
            self.expect("sign", ")")
            return value
        self._next += token.kind in ("text", "number", "name")
        match token.kind:
            case "text":
                return O(operator=O.TEXT, text=_ESCAPE.sub(_unescaped, token.text[1:-1]))
            case "number":
                return O(operator=O.NUMBER, number=float(token.text.rstrip("u")))
            case "name":
                return self._name(token)
        raise self._error("a value is expected")

    def _name(self, token: _Token) -> Expression:
        if token.text in ("true", "false"):
            return O(operator=O.TRUE if token.text == "true" else O.FALSE)
        if self._take("sign", "("):
            return self._call(token)
        if self._take("sign", "["):
            return self._entry(token)
        of, _, name = token.text.rpartition(".")
        if of in ENTRIES:
            return O(operator=O.ENTRY, text=of, operands=[O(operator=O.TEXT, text=name.lower())])
        if token.text not in ATTRIBUTES:
            raise self._error(f"there is no attribute {token.text}", token)
        return O(operator=O.ATTRIBUTE, text=token.text)

    def _entry(self, token: _Token) -> Expression:
        if token.text not in ENTRIES:
            raise self._error(f"{token.text} has no entries here", token)
        key = self.condition()
        self.expect("sign", "]")
        if key.operator != O.TEXT:
            raise self._error("an entry has a name in quotes", token)
        return O(operator=O.ENTRY, text=token.text, operands=[O(operator=O.TEXT, text=key.text.lower())])

    def _call(self, token: _Token) -> Expression:
        of, _, name = token.text.rpartition(".")
        if not of:
            operands = self._operands(")")
            if name not in _FUNCTIONS or len(operands) != 1:
                raise self._error(f"there is no function {name} with {len(operands)} values", token)
            if name == "has" and operands[0].operator not in (O.ATTRIBUTE, O.ENTRY):
                raise self._error("has asks for an attribute", token)
            return O(operator=_FUNCTIONS[name], operands=operands)
        self._next -= 1
        return self._method(name, self._name_of(of, token))

    def _name_of(self, of: str, token: _Token) -> Expression:
        if of not in ATTRIBUTES:
            raise self._error(f"there is no attribute {of}", token)
        return O(operator=O.ATTRIBUTE, text=of)

    def _word(self) -> str:
        token = self._token
        self.expect("name", token.text)
        return token.text

    def _method(self, name: str, of: Expression) -> Expression:
        token = self._token
        self.expect("sign", "(")
        operands = self._operands(")")
        if name == "size" and not operands:
            return O(operator=O.SIZE, operands=[of])
        if name not in _METHODS or len(operands) != 1:
            raise self._error(f"a text has no function {name} with {len(operands)} values", token)
        if name == "matches":
            _check_pattern(operands[0])
        return O(operator=_METHODS[name], operands=[of, operands[0]])

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str) -> bool:
        found = self._token.kind == kind and self._token.text == text
        self._next += found
        return found

    def _error(self, reason: str, token: _Token | None = None) -> ExpressionError:
        return ExpressionError(f"column {(token or self._token).at + 1}: {reason}")


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[1])


def _check_pattern(pattern: Expression) -> None:
    if pattern.operator != O.TEXT:
        raise ExpressionError("matches takes a regular expression in quotes")
    try:
        re2.compile(pattern.text)
    except re2.error as error:
        raise ExpressionError(f"{pattern.text!r} is no regular expression: {error}") from None
