"""What a contract's revert means, in one sentence and in the ledger's own error tree.

The tables name every custom error of Consortium, EvidenceLog and SharingGrants (a test holds them complete); an error
of a contract newer than this code still comes out as a Refusal with its name and values.
"""

from __future__ import annotations

from typing import Any

from eth_utils.address import to_checksum_address

from ledger.chain.abi import Artifact
from ledger.chain.client import RpcError
from ledger.errors import HistoryRefused, InclusionInvalid, KeyRefused, Malformed, Refusal, YunxiError
from ledger.formats.encoding import b64url_encode

_HISTORY = {
    "EvidenceLogShrunk": "The chain holds {anchoredSize} entries of log {logId} and refuses to go back to {size}; "
    "the local log was rolled back.",
    "EvidenceLogForked": "The chain holds root {anchoredRoot} for size {size} of log {logId} and refuses {root}: "
    "two histories of one log.",
    "EvidenceLogInconsistent": "Log {logId} at size {size} does not extend what the chain holds at size "
    "{anchoredSize}: the proof leads from {provenOld} to {provenNew}.",
    "EvidenceLogEmptyTree": "Log {logId} has no entries; an empty log cannot be anchored.",
    "EvidenceLogNotCurrent": "The consortium's EvidenceLog is {current}, not the one this node uses: run "
    "`yunxi consortium follow`.",
    "EvidenceLogNotAnchored": "Log {logId} has no anchor at size {size}.",
    "Rfc9162ProofTooLong": "The proof has {length} hashes, more than the sizes allow.",
    "Rfc9162ProofTooShort": "The proof has {length} hashes, fewer than the sizes need.",
    "Rfc9162IndexOutOfRange": "Entry {index} is not in a tree of {size} entries.",
}

_KEY = {
    "EvidenceLogNotAnchorer": "Account {account} is not a valid anchoring account of department {logId}; "
    "register its key with the consortium.",
    "EvidenceLogDepartmentUnknown": "Department {logId} was never admitted to the consortium.",
    "EvidenceLogDepartmentSuspended": "Department {logId} is suspended and cannot anchor until it is reinstated.",
    "ConsortiumUnauthorised": "Account {account} may not do this: it is neither the deployer during set-up, nor the "
    "department's governance account, nor a passed vote.",
    "ConsortiumNotAGovernor": "Account {account} votes for no department.",
    "ConsortiumKeyIdMissing": "A key of department {department} needs a key id.",
    "ConsortiumKeyExists": "Key {kid} is already registered, by department {department}.",
    "ConsortiumKeyUnknown": "Key {kid} is not registered for department {department}.",
    "ConsortiumKeyUseUnknown": "Key {kid} needs a use.",
    "ConsortiumPublicKeyLength": "The public key of {kid} has {length} bytes, which its use does not allow.",
    "ConsortiumKeyBackdated": "Key {kid} cannot begin at {validFrom}: the chain allows nothing before {earliest}.",
    "ConsortiumKeyClosedInThePast": "Key {kid} cannot end at {validTo}: the chain allows nothing before {earliest}.",
    "ConsortiumKeyAlreadyClosed": "Key {kid} already ends at {validTo}; its end can only come earlier.",
    "ConsortiumAnchorAccountTaken": "Account {account} already belongs to key {by}.",
    "SharingGrantsUnauthorised": "Account {account} does not act for department {owner}: only the owner of "
    "records grants and revokes.",
}

_OTHER = {
    "ConsortiumSetupStillOpen": "The consortium is still being set up; there are no votes before `closeSetup`.",
    "ConsortiumSetupAlreadyClosed": "The consortium's set-up is closed already.",
    "ConsortiumDepartmentIdMalformed": "{id} is not a department id: two to 31 of a-z, 0-9 and -, "
    "beginning with a letter.",
    "ConsortiumDepartmentExists": "Department {id} was admitted already.",
    "ConsortiumDepartmentUnknown": "Department {id} was never admitted to the consortium.",
    "ConsortiumDepartmentNotAdmitted": "Department {id} is not an admitted member now (state {state}).",
    "ConsortiumDepartmentNotSuspended": "Department {id} is not suspended (state {state}).",
    "ConsortiumOriginEmpty": "Department {id} needs a log origin.",
    "ConsortiumOriginTaken": "Log origin {logOrigin} belongs to another department.",
    "ConsortiumGovernorMissing": "Department {id} needs a governance account.",
    "ConsortiumGovernorTaken": "Account {governor} already votes for department {by}.",
    "ConsortiumModuleWithoutCode": "There is no contract at {module} to register as {name}.",
    "ConsortiumNotSuccessor": "{module} cannot replace the EvidenceLog at {current}: it names {predecessor} as its "
    "predecessor, so every log would begin anew; deploy one with `yunxi consortium successor`.",
    "ConsortiumMinimumVotes": "{minimum} votes are not possible with {admitted} admitted departments.",
    "ConsortiumExpiry": "A proposal cannot expire at {expiresAt}: it must be in the future and not after {latest}.",
    "ConsortiumProposalUnknown": "There is no proposal {proposal}.",
    "ConsortiumProposalExpired": "Proposal {proposal} expired at {expiresAt}.",
    "ConsortiumProposalExecuted": "Proposal {proposal} was carried out already.",
    "ConsortiumAlreadyApproved": "Department {department} approved proposal {proposal} already.",
    "ConsortiumNotApproved": "Department {department} has not approved proposal {proposal}.",
    "ConsortiumOtherAction": "Proposal {proposal} is for another action than the one given.",
    "ConsortiumTooFewVotes": "Proposal {proposal} has {votes} of the {needed} votes it needs.",
    "SharingGrantsNotAdmitted": "Department {department} is not an admitted member now (state {state}): it neither "
    "gives nor gets grants.",
    "SharingGrantsToItself": "Department {owner} needs no grant for its own records.",
    "SharingGrantsNothingNamed": "A grant must name something under {field}: what is not named is not granted.",
    "SharingGrantsTermEmpty": "A grant has an empty name in {field}, at place {position}.",
    "SharingGrantsTooManyTerms": "A grant names {length} {field}: at most 64 fit; give several grants.",
    "SharingGrantsBackdated": "A grant cannot begin at {validFrom}: the chain allows nothing before {earliest}.",
    "SharingGrantsValidity": "A grant from {validFrom} to {validTo} would never be in force.",
    "SharingGrantsUnknown": "There is no grant {id}.",
    "SharingGrantsAlreadyRevoked": "Grant {id} was revoked already, at {revokedAt}.",
    "AddressEmptyCode": "There is no contract at {target}.",
    "FailedCall": "The contract's inner call failed without a reason.",
    "InsufficientBalance": "The contract holds {balance} wei and needs {needed}.",
}

_INCLUSION = {
    "EvidenceLogNotIncluded": "Entry {index} of log {logId} is not under the root anchored at size {size}; "
    "its path leads to {provenRoot}.",
}

SENTENCES: dict[str, tuple[type[Refusal], str]] = {
    **{name: (HistoryRefused, text) for name, text in _HISTORY.items()},
    **{name: (KeyRefused, text) for name, text in _KEY.items()},
    **{name: (Refusal, text) for name, text in _OTHER.items()},
    **{name: (InclusionInvalid, text) for name, text in _INCLUSION.items()},
}

# arguments that hold a department id or another short name as padded ASCII, and those that hold a key id
_NAMES = frozenset({"logId", "id", "department", "name", "owner"})
_KEY_IDS = frozenset({"kid"})


def explain(artifact: Artifact, error: RpcError) -> YunxiError:
    """The refusal that a reverted call stands for; `error` itself if it was not a revert."""
    if not error.reverted:
        return error
    custom = artifact.errors.get(error.data[:4])
    if custom is None:
        return Refusal(f"Contract {artifact.name} refused: {error.text}.")
    try:
        values = {name: _text(custom.name, name, value) for name, value in custom.decode_input(error.data).items()}
    except Malformed:
        return Refusal(f"Contract {artifact.name} refused with {custom.name}, whose values cannot be read.")
    kind, sentence = SENTENCES.get(custom.name, (Refusal, ""))
    if not sentence:
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        sentence = f"Contract {artifact.name} refused: {custom.name} ({listed})."
        return kind(sentence)
    return kind(sentence.format(**values))


def _text(error: str, name: str, value: Any) -> str:
    if isinstance(value, bytes) and len(value) == 32:
        return _word(error, name, value)
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        return to_checksum_address(value)
    return str(value)


def _word(error: str, name: str, value: bytes) -> str:
    if name in _KEY_IDS or (error == "ConsortiumAnchorAccountTaken" and name == "by"):
        return b64url_encode(value)
    plain = value.rstrip(b"\x00") or b"(any)"
    if (name in _NAMES or name == "by") and plain.isascii() and plain.decode("ascii").isprintable():
        return repr(plain.decode("ascii"))
    return "0x" + value.hex()
