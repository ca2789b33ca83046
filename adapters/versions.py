"""A feed's mapping may change; what it made does not. So a version is one content for ever, and a key stays the key."""

from __future__ import annotations

from adapters.mapping import FeedMapping
from adapters.state import AdapterState, Held
from ledger.errors import Malformed


def check_version(mapping: FeedMapping, held: Held | None) -> None:
    """Raises Malformed where `mapping` may not follow the one that is `held`: an older version, another content under
    the same version, or another key, under which every row would be sealed once more."""
    if held is None:
        return
    if mapping.version < held.version:
        reason = f'"version" is {mapping.version}, but version {held.version} has made records; raise it above that'
        raise Malformed(mapping.file, reason)
    if mapping.version == held.version and mapping.digest != held.digest:
        reason = f'is not the version {held.version} that has made records; raise "version" to {held.version + 1}'
        raise Malformed(mapping.file, reason)
    if mapping.key != held.key and mapping.former_key != held.key:
        names = ", ".join(f'"{name}"' for name in held.key)
        reason = (
            f'"key" was [{names}], and rows are known by it: under another all would be sealed again; keep it, or, '
            f"where the same values only stand in columns of other names now, add former_key = [{names}]"
        )
        raise Malformed(mapping.file, reason)


def hold_version(mapping: FeedMapping, state: AdapterState) -> None:
    """Durably takes down that `mapping` makes records from now on. Raises Malformed, as `check_version`, where another
    run was faster."""
    check_version(mapping, state.hold(mapping.feed, Held(mapping.version, mapping.digest, mapping.key)))
