"""Reading records by the list: what the quick ways find is what the strict ones do."""

from __future__ import annotations

import orjson
import pytest

from ledger.formats.encoding import b64url_encode
from ledger.formats.sdjwt import parse_disclosure
from ledger.records import unit_of

SALT = "A" * 22

DISCLOSURES = {
    "as we seal them": [SALT, "result", {"result": "合格"}],
    "a short name": [SALT, "a", {}],
    "a name as long as what is read of it": [SALT, "n" * 32, {"a": 1}],
    "a longer name": [SALT, "n" * 33, {"a": 1}],
    "a much longer name": [SALT, "n" * 150, {"a": 1}],
    "a name cut within a character": [SALT, "果" * 12, {"a": 1}],
    "a name with a quote": [SALT, 're"sult', {"a": 1}],
    "a name with a backslash": [SALT, "re\\sult", {"a": 1}],
    "a longer salt": [SALT + "AA", "result", {"a": 1}],
    "a salt of 24 bytes": [SALT + "A" * 10, "result", {"a": 1}],
}


@pytest.mark.parametrize("case", DISCLOSURES)
def test_the_unit_is_read_as_the_strict_parser_reads_it(case: str) -> None:
    text = b64url_encode(orjson.dumps(DISCLOSURES[case]))
    assert unit_of(text.encode()) == parse_disclosure(text).unit == DISCLOSURES[case][1]


def test_a_unit_that_is_written_with_escapes_is_the_same_unit() -> None:
    text = b64url_encode(orjson.dumps([SALT, "result", {}]).replace(b"result", b"res\\u0075lt"))
    assert unit_of(text.encode()) == parse_disclosure(text).unit == "result"
