"""Expressions of Telemetry objects: what is understood of CEL, and what is said of the rest."""

import pytest

from agent.model.translation.expression import ExpressionError, attributes, parse
from protocols.telemetry_pb2 import Expression


def shown(expression: Expression) -> str:
    """In a form of which the order of evaluation can be read."""
    name = Expression.Operator.Name(expression.operator)
    match name:
        case "TEXT":
            return repr(expression.text)
        case "NUMBER":
            return f"{expression.number:g}"
        case "ATTRIBUTE":
            return expression.text
        case "ENTRY":
            return f"{expression.text}[{shown(expression.operands[0])}]"
    return f"{name}({' '.join(map(shown, expression.operands))})" if expression.operands else name


READ = [
    ("response.code >= 400", "GREATER_OR_EQUAL(response.code 400)"),
    ("request.host", "request.host"),
    ("'a\\'b\\n'", '"a\'b\\n"'),
    ('"x"', "'x'"),
    ("-1.5 < 2u", "LESS(-1.5 2)"),
    ("!connection.mtls", "NOT(connection.mtls)"),
    (
        "connection.mtls && response.code == 200 || request.path != '/'",
        "OR(AND(connection.mtls EQUAL(response.code 200)) NOT_EQUAL(request.path '/'))",
    ),
    ("has(request.host) ? request.host : 'none'", "CONDITION(HAS(request.host) request.host 'none')"),
    ("request.headers['X-Team']", "request.headers['x-team']"),
    ("request.headers.team == 'a'", "EQUAL(request.headers['team'] 'a')"),
    ("request.url_path.startsWith('/a')", "STARTS_WITH(request.url_path '/a')"),
    ("request.headers['a'].contains('b')", "CONTAINS(request.headers['a'] 'b')"),
    ("string(destination.port) + ':x'", "ADD(STRING(destination.port) ':x')"),
    ("request.method in ['GET', 'PUT']", "IN(request.method 'GET' 'PUT')"),
    ("size(request.path) > request.host.size()", "GREATER(SIZE(request.path) SIZE(request.host))"),
    ("(true || false) && true", "AND(OR(TRUE FALSE) TRUE)"),
    ("request.path.matches('^/a+$')", "MATCHES(request.path '^/a+$')"),
    ("upstream_peer.workload", "upstream_peer.workload"),
]
REFUSED = [
    ("", "column 1: a value is expected"),
    ("1 1", "column 3: the end is expected"),
    ("a.b", "column 1: there is no attribute a.b"),
    ("request", "column 1: there is no attribute request"),
    ("request.host[0]", "column 1: request.host has no entries here"),
    ("request.headers[request.host]", "column 1: an entry has a name in quotes"),
    ("now()", "column 1: there is no function now with 0 values"),
    ("request.host.lower()", "column 19: a text has no function lower with 0 values"),
    ("has('a')", "column 1: has asks for an attribute"),
    ("request.path.matches('(')", "'(' is no regular expression"),
    ("'a", "column 1: not understood"),
    ("(1", "column 3: ) is expected"),
    ("true ? 1", "column 9: : is expected"),
    ("(" * 40 + "1" + ")" * 40, "nested too deeply"),
    ("-request.host", "- belongs before a number"),
    ("x" * 5000, "more than 4096 characters"),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_what_is_understood(text: str, expected: str) -> None:
    assert shown(parse(text)) == expected


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_is_not_understood_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert reason in str(refused.value)


def test_the_attributes_of_an_expression() -> None:
    found = attributes(parse("has(request.host) && request.headers['a'] == 'b'"))
    assert [*found] == ["request.host", "request.headers"]
