"""JSON with one reading: agrees with `json` on what it takes, and refuses what two readers could read differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed
from ledger.formats.strictjson import MAX_DEPTH, MAX_INTEGER, MAX_VALUES, loads, loads_object


def read(data: bytes, max_bytes: int = 4_000_000) -> Any:
    return loads(data, what="it", max_bytes=max_bytes)


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON at line 1"),
    "white space only": (b" \n", "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not JSON|BOM"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "not UTF-8 at byte"),
    "Latin-1": ('{"a":"é"}'.encode("latin-1"), "not UTF-8 at byte 6"),
    "UTF-8 of a surrogate": (b'"\xed\xa0\x80"', "not UTF-8"),
    "overlong UTF-8": (b'"\xc0\xaf"', "not UTF-8"),
    "a lone high surrogate": (b'"\\ud800"', "lone surrogate"),
    "a lone low surrogate": (b'{"a": ["\\udc00"]}', "lone surrogate"),
    "a lone surrogate as a name": (b'{"\\ud83d": 1}', "lone surrogate"),
    "surrogates in the wrong order": (b'"\\ude00\\ud83d"', "lone surrogate"),
    "a name twice": (b'{"a":1,"b":2,"a":1}', "member 'a' stands twice"),
    "a name twice, once escaped": (b'{"a":1,"\\u0061":2}', "member 'a' stands twice"),
    "a name twice, deep inside": (b'[{"x":{"a":1,"a":1}}]', "stands twice"),
    "NaN": (b"[NaN]", "NaN is not a JSON number"),
    "Infinity": (b"Infinity", "Infinity is not"),
    "-Infinity": (b"[-Infinity]", "-Infinity is not"),
    "a number that doubles hold as infinity": (b"[1e999]", "beyond what a double holds"),
    "its negative": (b"[-1e999]", "beyond what a double holds"),
    "2^53": (b"9007199254740992", "beyond 2\\^53-1"),
    "-2^53": (b"[-9007199254740992]", "beyond 2\\^53-1"),
    "an integer of 5,000 digits": (b"1" * 5000, "beyond 2\\^53-1"),
    "a leading zero": (b"[01]", "not JSON"),
    "a plus sign": (b"[+1]", "not JSON"),
    "a trailing comma": (b"[1,]", "not JSON"),
    "single quotes": (b"{'a':1}", "not JSON"),
    "a comment": (b"[1] // no", "not JSON"),
    "two values": (b"{}{}", "not JSON"),
    "a control character in a text": (b'"\x01"', "not JSON"),
    "a text that does not end": (b'"abc', "not JSON"),
    "a backslash at the end": (b'"abc\\', "not JSON"),
    "one level too deep": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 32"),
    "objects too deep": (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested deeper"),
    "100,000 levels": (b"[" * 100_000, "nested deeper"),
    "more values than a text may hold": (b"[" + b"0," * MAX_VALUES + b"0]", "holds more than 500,000 values"),
    "a name twice among a hundred thousand": (
        b"{" + b"".join(b'"%d":0,' % n for n in range(100_000)) + b'"99999":0}',
        "member '99999' stands twice",
    ),
    "two names twice": (b'{"a":1,"b":2,"b":3,"a":4}', "member 'b' stands twice"),
    "depth behind a text full of brackets": (b'["]]]]]]]",' * 40, "nested deeper"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(Malformed, match=words) as caught:
        read(data)
    assert caught.value.what == "it"
    assert len(str(caught.value)) < 200


TAKEN: dict[str, tuple[bytes, Any]] = {
    "2^53-1": (b"9007199254740991", MAX_INTEGER),
    "-(2^53-1)": (b"-9007199254740991", -MAX_INTEGER),
    "a pair of surrogates": (b'"\\ud83d\\ude00"', "😀"),
    "an escaped backslash before u": (b'"\\\\ud800"', "\\ud800"),
    "the deepest allowed": (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
    "the deepest allowed, and more beside": (b"[[]," + b"[" * (MAX_DEPTH - 1) + b"]" * MAX_DEPTH, None),
    "many brackets, none deep": (b"[" + b"[],{}," * 200 + b"1]", None),
    "brackets inside a text": (b'["' + b"[{" * 500 + b'"]', ["[{" * 500]),
    "escaped quotes before brackets": (b'["\\"' + b"[" * 100 + b'"]', ['"' + "[" * 100]),
    "commas inside a text": (b'["' + b"," * (MAX_VALUES + 1) + b'"]', ["," * (MAX_VALUES + 1)]),
    "as many values as may be": (b"[" + b"0," * (MAX_VALUES - 1) + b"0]", [0] * MAX_VALUES),
    "a number at the end of doubles": (b"1e308", 1e308),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    data, value = TAKEN[name]
    assert read(data) == (json.loads(data) if value is None else value)


def test_size_is_counted_before_anything_is_read() -> None:
    assert read(b"[1]", max_bytes=3) == [1]
    with pytest.raises(Malformed, match="4 bytes is more than the 3 allowed"):
        read(b"[1] ", max_bytes=3)


def test_values_are_counted_before_anything_is_read() -> None:
    assert loads(b"[[1, 2], 3]", what="it", max_bytes=20, max_values=4) == [[1, 2], 3]
    # not JSON at all, and not found out: memory is what counts
    with pytest.raises(Malformed, match="holds more than 4 values"):
        loads(b"[[1, 2], 3, 4", what="it", max_bytes=20, max_values=4)


def test_an_object_at_the_top() -> None:
    assert loads_object(b"{}", what="it", max_bytes=9) == {}
    for data in (b"[]", b'"a"', b"1", b"null"):
        with pytest.raises(Malformed, match="must be a JSON object"):
            loads_object(data, what="it", max_bytes=9)


def test_a_text_that_does_not_end_is_looked_through_once() -> None:
    # 2 MB that took an hour while the search for brackets began anew at every quote
    with pytest.raises(Malformed, match="not JSON"):
        read(b"[]" * 40 + b'"' + b'\\"' * 1_000_000)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(values, st.booleans())
def test_agrees_with_json(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert read(data) == json.loads(data)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0eE+-.1 aNfI\n', max_size=40).map(str.encode))
def test_takes_nothing_that_json_would_not(data: bytes) -> None:
    try:
        value = read(data)
    except Malformed:
        return
    assert value == json.loads(data.decode("utf-8"))


def test_commas_inside_texts_are_no_values_where_values_are_counted() -> None:
    assert loads(b'[",,",1,2]', what="it", max_bytes=99, max_values=3) == [",,", 1, 2]
    with pytest.raises(Malformed, match="holds more than 3 values"):
        loads(b'[",,",1,2,3]', what="it", max_bytes=99, max_values=3)
