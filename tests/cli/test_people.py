"""`yunxi people`: accounts as an administrator makes them at the node."""

from __future__ import annotations

import pytest

from tests.fixtures.command import Yunxi

pytestmark = pytest.mark.xdist_group("cli")

PASSWORD = b"correct horse battery\n"


def test_an_account_from_making_to_closing(yunxi: Yunxi) -> None:
    words = ("people", "add", "wang@fire.example", "--department", "fire", "--role", "supervisor", "--password-stdin")
    made = yunxi(*words, "--json", stdin=PASSWORD).json()
    assert made["roles"] == ["supervisor"]
    assert made["provisioning_uri"].startswith("otpauth://totp/")
    shown = yunxi.good("people", "list").out
    assert "wang@fire.example" in shown and "password and code" in shown and "1 account." in shown
    assert (
        yunxi.good("people", "reset", "wang@fire.example", "--json").json()["provisioning_uri"]
        != made["provisioning_uri"]
    )
    yunxi.good("people", "roles", "wang@fire.example", "--role", "officer", "--role", "auditor")
    yunxi.good("people", "disable", "wang@fire.example")
    (account,) = yunxi.good("people", "list", "--json").json()["accounts"]
    assert (account["roles"], account["disabled"]) == (["auditor", "officer"], True)
    yunxi.good("people", "enable", "wang@fire.example")
    assert yunxi("people", "password", "wang@fire.example", "--password-stdin", stdin=PASSWORD).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("add", "li", "--department", "fire", "--role", "king", "--password-stdin"),
            "an account needs roles, of these",
        ),
        (
            ("add", "li", "--department", "police", "--role", "officer", "--password-stdin"),
            "department 'police' has no",
        ),
        (
            ("add", "li", "--department", "fire", "--role", "auditor", "--no-totp", "--password-stdin"),
            "only an account",
        ),
        (("password", "nobody", "--password-stdin"), "there is no account 'nobody'"),
        (("disable", "nobody"), "there is no account 'nobody'"),
    ],
)
def test_what_is_refused_says_why(yunxi: Yunxi, words: tuple[str, ...], said: str) -> None:
    result = yunxi("people", *words, stdin=PASSWORD)
    assert result.code == 1
    assert result.sentence().startswith(said)


def test_a_script_must_say_where_the_password_is(yunxi: Yunxi) -> None:
    result = yunxi("people", "add", "li", "--department", "fire", "--role", "officer")
    assert result.code == 2
    assert "--password-stdin" in result.sentence()
