"""Random JSON schemas of the kind that applications ask for: bounded, so that a model that knows nothing comes to an
end."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

names = st.sampled_from(["name", "age", "größe", "is ok", 'quo"te', "a\\b", "日本", "x" * 12, "", "$ref", "type"])


def _limited_string(low: int, more: int) -> Schema:
    return {"type": "string", "minLength": low, "maxLength": low + more}


def _limited_number(low: int, more: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": low + more}


def _quarters(low: int) -> Schema:
    return {"type": "number", "minimum": low, "maximum": low + 3, "multipleOf": 0.25}


_strings = st.builds(_limited_string, st.integers(0, 4), st.integers(0, 12)) | st.sampled_from(
    [
        {"type": "string", "pattern": "^[a-f]{2,6}$"},
        {"type": "string", "pattern": "^\\d{3}-\\d{4}$"},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "ipv4"},
    ]
)
_numbers = st.one_of(
    st.builds(_limited_number, st.integers(-2000, 2000), st.integers(0, 5000)),
    st.builds(_quarters, st.integers(-50, 50)),
    st.just({"type": "integer", "exclusiveMinimum": 0, "maximum": 10**6, "multipleOf": 5}),
)
_plain = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4)
_constants = st.integers(-(2**53), 2**53) | st.text(max_size=6) | st.lists(st.integers(0, 3), max_size=2)
_values = st.one_of(
    st.builds(lambda values: {"enum": values}, st.lists(_plain, min_size=1, max_size=5, unique_by=repr)),
    st.builds(lambda value: {"const": value}, _constants),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}]),
)


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    def build(properties: dict[str, Schema], required: list[bool]) -> Schema:
        wanted = [name for name, needed in zip(properties, required, strict=False) if needed]
        return {"type": "object", "properties": properties, "required": wanted, "additionalProperties": False}

    return st.builds(build, st.dictionaries(names, inner, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))


def _arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    plain = st.builds(
        lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )
    fixed = st.builds(
        lambda items: {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)},
        st.lists(inner, min_size=1, max_size=3),
    )
    return st.one_of(plain, fixed)


def _choices(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3))


schemas: st.SearchStrategy[Schema] = _objects(
    st.recursive(
        st.one_of(_strings, _numbers, _values),
        lambda inner: st.one_of(_objects(inner), _arrays(inner), _choices(inner)),
        max_leaves=6,
    )
)
"""The whole answer is an object, as with OpenAI."""
