"""Route tables and requests made by hypothesis over few words, so that they meet; the same in each run."""

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.routes.tables import Json, Table, expand

_PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "/A", "/b/c", "/a/b/c")
_HEADERS = ("x-a", "x-b")
_VALUES = ("1", "12", "2")
_PATTERNS = ("^1", "2", "[0-9]+", ".*", "1|12")


def _string(values: st.SearchStrategy[str], pattern: st.SearchStrategy[str]) -> st.SearchStrategy[Json]:
    exact_or_prefix = st.builds(
        lambda kind, value: {kind: value}, st.sampled_from(["exact", "prefix"]), values
    )
    return exact_or_prefix | pattern.map(lambda one: {"regex": one})


_PATH = _string(st.sampled_from(_PATHS), st.sampled_from(["/a.*", "/(a|b)/.+", "/[ab]*", ".*"]))
_VALUE = _string(st.sampled_from(_VALUES), st.sampled_from(_PATTERNS))
_FIELDS = st.dictionaries(st.sampled_from(_HEADERS), _VALUE | st.just({}), min_size=1, max_size=2)
_MATCH = st.fixed_dictionaries(
    {},
    optional={
        "uri": _PATH,
        "ignoreUriCase": st.just(True),
        "headers": _FIELDS,
        "withoutHeaders": _FIELDS,
        "queryParams": st.dictionaries(st.sampled_from(["q", "r"]), _VALUE | st.just({}), min_size=1),
        "method": st.sampled_from([{"exact": "GET"}, {"prefix": "P"}, {"regex": "GET|POST"}]),
    },
)
_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "set": st.dictionaries(st.sampled_from(_HEADERS), st.sampled_from(_VALUES)),
        "add": st.dictionaries(st.sampled_from(_HEADERS), st.sampled_from(_VALUES)),
        "remove": st.lists(st.sampled_from(_HEADERS), unique=True),
    },
)
_HEADER_CHANGES = st.fixed_dictionaries({}, optional={"request": _CHANGES, "response": _CHANGES})
_REWRITE = st.fixed_dictionaries({"uri": st.sampled_from(["/", "/new", "/new/"])}) | st.just(
    {"uriRegexRewrite": {"match": "[ab]", "rewrite": r"-\0-"}}
)
_FORWARD = st.fixed_dictionaries(
    {"to": st.sampled_from(["v1", "v2", {"v1": 1, "v2": 0}, {"v1": 0, "v2": 3}])},
    optional={"rewrite": _REWRITE, "headers": _HEADER_CHANGES},
)
_REDIRECT = st.fixed_dictionaries(
    {"scheme": st.sampled_from(["http", "https"])},
    optional={
        "uri": st.sampled_from(["/new", "/"]),
        "authority": st.sampled_from(["a.example", "a.example:8080"]),
        "redirectCode": st.sampled_from([301, 302, 303, 307, 308]),
        "port": st.sampled_from([80, 443, 8080]),
    },
)
_ACTION = _FORWARD | _FORWARD | _FORWARD | _REDIRECT.map(lambda one: {"redirect": one})
_RULE = st.builds(
    lambda matches, action: matches | action,
    st.fixed_dictionaries({"match": st.lists(_MATCH, max_size=2)}),
    _ACTION,
)
_TARGET = st.builds(
    lambda path, query: path + query,
    st.sampled_from(_PATHS),
    st.sampled_from(["", "", "?q=1", "?q=12&r=2", "?r", "?q=2&q=1"]),
)
_SENT = st.lists(
    st.builds(lambda name, value: f" | {name}: {value}", st.sampled_from(_HEADERS), st.sampled_from(_VALUES)),
    max_size=2,
)
_REQUEST = st.builds(
    lambda method, target, sent: f"{method} {target}{''.join(sent)}",
    st.sampled_from(["GET", "GET", "PUT"]),
    _TARGET,
    _SENT,
)


def generated(count: int) -> list[Table]:
    """So many tables, with ten requests each."""
    made: list[Table] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(_RULE, min_size=2, max_size=6), st.lists(_REQUEST, min_size=10, max_size=10, unique=True))
    def make(rules: list[Json], ask: list[str]) -> None:
        name = f"generated {len(made) + 1}"
        made.append(Table(name, "http", [expand(rule, "http") for rule in rules], tuple(ask)))

    make()
    return made
