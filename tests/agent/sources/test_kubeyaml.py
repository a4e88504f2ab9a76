"""YAML as kubectl reads it. The right values are those of sigs.k8s.io/yaml 1.6."""

import json
from typing import Any

import pytest
import yaml

from agent.sources.kubeyaml import dump, load

# By the JSON: how it may be written without quotes.
SCALARS = {
    "true": "y Y yes Yes YES true True TRUE on On ON",
    "false": "n N no No NO false False FALSE off Off OFF",
    "null": "~ null Null NULL",
    "0": "0 00 -0 +0 0x0 0b0 0o0 0.0 0. .0 0e0",
    "8": "8 +8 010 0o10 0O10 0b1000 0x8 0X8 8.0 8. 08 8e0 0.8e1 80e-1 0_10 0x_8",
    "-8": "-8 -010 -0x8 -0b1000 -0o10 -8.0 -08",
    "1000": "1000 1_000 1__000 1000_ 1e3 1E3 1e+3 1.e3",
    "0.5": "0.5 .5 +.5 00.5 5e-1",
    "9223372036854775807": "9223372036854775807 0x7FFFFFFFFFFFFFFF",
    "18446744073709551615": "18446744073709551615 0xFFFFFFFFFFFFFFFF",
    "1.8446744073709552e+19": "18446744073709551616",
    '"1:30"': "1:30",
    '"10.0.0.0/8"': "10.0.0.0/8",
    '"2026-01-01"': "2026-01-01",
    '"2026-01-01T00:00:00Z"': "2026-01-01T00:00:00Z",
    '"12e"': "12e",
    '"0x"': "0x",
    '"0b12"': "0b12",
    '"0o8"': "0o8",
    '"1e400"': "1e400",
    '"1.2.3"': "1.2.3",
    '"nUll"': "nUll",
    '"yEs"': "yEs",
    '"nan"': "nan",
    '"_1"': "_1",
    '"+"': "+",
    '"="': "=",
}


def read(text: str) -> Any:
    return load(text.encode())


@pytest.mark.parametrize("written", SCALARS)
def test_scalars(written: str) -> None:
    for text in SCALARS[written].split():
        found = json.dumps(read(f"[{text}]")[0])
        assert found == written, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{8080: a, 0x50: b, 010: c}", {"8080": "a", "80": "b", "8": "c"}),
        ("{yes: 1, off: 2}", {"true": 1, "false": 2}),
        ("{08: a, 2026-01-01: b}", {"8": "a", "2026-01-01": "b"}),
        ("{a: null, b: , c: {d: ~}}", {"c": {}}),
        ("[a, null]", ["a", None]),
        ("{a: '010', b: \"yes\", c: '~'}", {"a": "010", "b": "yes", "c": "~"}),
        ("{a: |\n  010\n}", None),
        ("a: |\n  010\n", {"a": "010\n"}),
        (
            "{a: !!str 010, b: !!int '010', c: !!float 8, d: !!bool 'yes'}",
            {"a": "010", "b": 8, "c": 8, "d": True},
        ),
        ("{a: !!binary aGVs bG8=}", {"a": "hello"}),
        ("{a: &x {b: 1, c: 2}, d: *x}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 2}}),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, c: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("{a: {<<: [{b: 1}, {b: 2, c: 3}]}}", {"a": {"b": 1, "c": 3}}),
        ("{'<<': 1}", {"<<": 1}),
    ],
)
def test_documents(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(yaml.YAMLError):
            read(text)
    else:
        assert read(text) == value


def test_what_is_written_is_read_as_it_was() -> None:
    words = [word for texts in SCALARS.values() for word in texts.split()]
    value = {word: [word, {word: word}] for word in [*words, ".inf", "<<", "a: b", "- c", "#", "", "d\n"]}
    value["numbers"] = [0, -8, 2**63, 0.5, 1e300, True, False]  # type: ignore[list-item]
    assert read(dump(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{a: 1, a: 2}", "a is there twice"),
        ("{80: 1, '80': 2}", "80 is there twice"),
        ("{yes: 1, on: 2}", "true is there twice"),
        ("{1.5: x}", "a key is a string, an integer or a boolean: put it in quotes"),
        ("{~: x}", "a key is a string, an integer or a boolean: put it in quotes"),
        ("{? [a] : x}", "a key is a string, an integer or a boolean: put it in quotes"),
        ("{a: .inf}", ".inf is no number that an object could have"),
        ("{a: .NaN}", ".NaN is no number that an object could have"),
        ("{a: !!int x}", "x is no int"),
        ("{a: !!binary x}", "!!binary takes Base64 of a text"),
        ("{a: !mine x}", "the tag !mine is none of Kubernetes' own; leave it out"),
        ("{a: !!python/name:os.system ''}", "the tag tag:yaml.org,2002:python/name:os.system is none"),
        ("{<<: 3}", "<< takes a mapping, or a list of them"),
        ("&a [*a]", "it nests deeper than 100 levels, or contains itself"),
        ("&a {b: *a}", "it nests deeper than 100 levels, or contains itself"),
        ("&a {<<: *a}", "it nests deeper than 100 levels, or contains itself"),
        ("[" * 500 + "]" * 500, "it nests deeper than 100 levels, or contains itself"),
        ("[" * 100_000, "exceeded maximum nesting depth"),
    ],
)
def test_what_has_no_json_is_refused(text: str, reason: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        read(text)
    assert str(caught.value.problem).startswith(reason)
    assert caught.value.problem_mark


def test_aliases_of_aliases_end_soon() -> None:
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lists += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(yaml.MarkedYAMLError, match="more than 1000000 values"):
        read("\n".join(lists))
