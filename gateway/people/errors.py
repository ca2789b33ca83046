"""What people are told when they cannot get in. None of it says which of login, password and code was wrong."""

from __future__ import annotations

from ledger.errors import CouldNotRun, Refusal


class SignInFailed(Refusal):
    """Login, password or code is wrong, or the account is locked or disabled; nobody is told which."""

    code = "sign-in-failed"

    def __init__(self) -> None:
        super().__init__(
            "login, password or one-time code is wrong, or the account is locked; after five failures wait a quarter "
            "of an hour, or ask your department's administrator"
        )


class AccountRefused(Refusal):
    """An account that cannot be made or changed as asked."""

    code = "account-refused"


class ProviderRefused(Refusal):
    """The identity provider, or what it said of the person, is not acceptable."""

    code = "provider-refused"


class ProviderUnreachable(CouldNotRun):
    """The identity provider does not answer. Whoever is signed in stays so."""

    code = "provider-unreachable"
