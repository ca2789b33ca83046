"""`yunxi interchange`: files for other people's tools."""

from __future__ import annotations

import json
from collections.abc import Callable

import cbor2
import pytest
from cryptography import x509

from tests.fixtures.command import Yunxi

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture(scope="module")
def record_id(yunxi: Yunxi) -> str:
    from tests.cli.conftest import record_file

    records = [
        json.loads(yunxi.good("seal", record_file(yunxi.directory, f"i{n}.json", 900 + n), "--json").out)["record_id"]
        for n in range(2)
    ]
    yunxi.good("anchor")
    return str(records[1])


def test_a_cose_receipt(yunxi: Yunxi, record_id: str) -> None:
    yunxi.good("interchange", "receipt", record_id, "-o", "r.cose")
    assert cbor2.loads((yunxi.directory / "r.cose").read_bytes()).value[2] is None
    shown = yunxi.good("interchange", "receipt", record_id, "--format", "scitt", "-o", "r.scitt", "--json").out
    statement = (yunxi.directory / "r.scitt").read_bytes()
    assert json.loads(shown)["size"] == len(statement)
    assert cbor2.loads(statement).value[1].keys() == {394}


def test_a_certificate(yunxi: Yunxi) -> None:
    yunxi.good("interchange", "certificate", "fire", "-o", "fire.pem")
    first = (yunxi.directory / "fire.pem").read_bytes()
    yunxi.good("interchange", "certificate", "fire", "-o", "again.pem")
    assert (yunxi.directory / "again.pem").read_bytes() == first
    assert x509.load_pem_x509_certificate(first).issuer == x509.load_pem_x509_certificate(first).subject


REFUSED: dict[str, Callable[[str], tuple[str, ...]]] = {
    "a record that is not there": lambda _: ("receipt", "01900000-0000-7000-8000-000000000000"),
    "a format that is none": lambda record: ("receipt", record, "--format", "pdf"),
    "a record that is no exchange": lambda record: ("exchange", record),
    "a department that is not there": lambda _: ("certificate", "nobody"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(yunxi: Yunxi, record_id: str, case: str) -> None:
    result = yunxi("interchange", *REFUSED[case](record_id), "-o", "none")
    assert result.code in (1, 2) and result.sentence()
    assert not (yunxi.directory / "none").exists()
