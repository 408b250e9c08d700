"""One meaning per byte string: the strict JSON and base64url parsers."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.keys.strict import MAX_DEPTH, MAX_INTEGER, Malformed, base64url, json_object, json_value

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@settings(deadline=None)
@given(values, st.booleans())
def test_what_is_good_json_keeps_its_meaning(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    if depth(value) > MAX_DEPTH:
        return
    parsed = json_value(data)
    assert parsed == value
    assert repr(parsed) == repr(orjson.loads(data))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_mean_the_same_to_another_parser(data: bytes) -> None:
    try:
        value = json_value(data)
    except Malformed:
        return
    assert orjson.loads(data) == value


@settings(deadline=None)
@given(values, st.data())
def test_a_damaged_document_is_refused_or_still_means_one_thing(value: Any, draw: st.DataObject) -> None:
    data = bytearray(json.dumps(value).encode())
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] = draw.draw(st.integers(0, 255))
    try:
        parsed = json_value(bytes(data))
    except Malformed:
        return
    assert orjson.loads(data) == parsed


@pytest.mark.parametrize(
    "data",
    [
        b'{"sub":"a","sub":"b"}',
        b'{"act":{"sub":"a","sub":"a"}}',
        b'{"x":[{"a":1,"a":2}]}',
        b'{"sub":"a","\\u0073ub":"b"}',
        b"\xef\xbb\xbf{}",
        '{"sub":"a"}'.encode("utf-16"),
        '{"sub":"a"}'.encode("utf-16-le"),
        '{"sub":"a"}'.encode("utf-32-be"),
        b'{"sub":"\xff"}',
        b'{"sub":"\xed\xa0\x80"}',
        b'{"sub":"\xc0\x80"}',
        b'{"sub":"\\ud800"}',
        b'{"sub":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":[["\\uDFFF"]]}',
        b'{"sub":"\\u0000"}',
        b'{"a\\u0000":1}',
        b'{"sub":"\x00"}',
        b'{"exp":NaN}',
        b'{"exp":Infinity}',
        b'{"exp":-Infinity}',
        b'{"exp":1e400}',
        b'{"exp":9007199254740992}',
        b'{"exp":-9007199254740992}',
        b'{"exp":' + b"9" * 5000 + b"}",
        b'{"exp":0.' + b"9" * 5000 + b"}",
        b'{"exp":01}',
        b'{"a":1,}',
        b'{"a":1}{}',
        b"{'a':1}",
        b'{"a":1}//',
        b"[1]",
        b'"text"',
        b"null",
        b"",
        b"[" * 6000,
        b'{"a":' * 1200 + b"1" + b"}" * 1200,
        b"[" * 17 + b"]" * 17,
    ],
)
def test_ambiguous_or_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        json_object(data)
    assert len(str(refusal.value)) < 50


def test_depth_is_counted_outside_strings_only() -> None:
    brackets = "[{" * 40 + '\\" ['
    assert json_object(json.dumps({"a": brackets, "b": [[1]]}).encode()) == {"a": brackets, "b": [[1]]}
    sixteen = b'{"a":' + b"[" * 15 + b"]" * 15 + b"}"
    assert json_object(sixteen)
    with pytest.raises(Malformed, match="deep"):
        json_object(b'{"a":' + b"[" * 16 + b"]" * 16 + b"}")
    assert json_value(b"[" + b",".join([b"[]"] * 100) + b"]") == [[]] * 100


def test_surrogate_pairs_and_negative_numbers_are_fine() -> None:
    assert json_object(b'{"a":"\\ud83d\\ude00","b":-5,"c":-1.5}') == {"a": "\U0001f600", "b": -5, "c": -1.5}


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=80))
def test_base64url_has_one_spelling(octets: bytes) -> None:
    text = base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    assert base64url(text) == octets


@settings(deadline=None)
@given(st.text("ABCQgw048-_+/= \n\r\u00e9\u0130", max_size=12))
def test_base64url_takes_only_what_it_would_write(text: str) -> None:
    try:
        octets = base64url(text)
    except Malformed:
        return
    assert base64.urlsafe_b64encode(octets).rstrip(b"=").decode() == text


@pytest.mark.parametrize("text", ["", "A", "AB", "AAB", "AA==", "AAA=", "A A", "AAAA\n", "AA+A", "AA/A", "\uff21" * 4])
def test_base64url_refuses_padding_space_stray_bits_and_the_other_alphabet(text: str) -> None:
    with pytest.raises(Malformed):
        base64url(text)
