// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, IConsortium, Term} from "./interfaces/IConsortium.sol";
import {ISharingGrants} from "./interfaces/ISharingGrants.sol";

/// @title SharingGrants
contract SharingGrants is ISharingGrants {
    /// @notice How far a grant's validFrom may lie before the block's time.
    uint64 public constant CLOCK_SKEW = 5 minutes;

    /// @notice The longest list of terms.
    uint256 public constant MAX_TERMS = 64;

    /// @inheritdoc ISharingGrants
    IConsortium public immutable override consortium;

    Grant[] private _grants;
    mapping(DepartmentId owner => uint256[]) private _by;
    mapping(DepartmentId grantee => uint256[]) private _to;

    constructor(IConsortium consortium_) {
        consortium = consortium_;
    }

    /// @inheritdoc ISharingGrants
    function grant(DepartmentId owner, Terms calldata terms) external override returns (uint256 id) {
        _requireActsFor(owner);
        _requireAdmitted(owner);
        _requireAdmitted(terms.grantee);
        if (owner == terms.grantee) revert SharingGrantsToItself(owner);
        _requireValidity(terms.validFrom, terms.validTo);
        _requireNamed(terms);
        id = _grants.length;
        _grants.push(Grant(owner, uint64(block.timestamp), 0, terms));
        _by[owner].push(id);
        _to[terms.grantee].push(id);
        emit Granted(id, owner, terms.grantee, terms, msg.sender);
    }

    /// @inheritdoc ISharingGrants
    function revoke(uint256 id) external override {
        Grant storage entry = _known(id);
        _requireActsFor(entry.owner);
        if (entry.revokedAt != 0) revert SharingGrantsAlreadyRevoked(id, entry.revokedAt);
        entry.revokedAt = uint64(block.timestamp);
        emit Revoked(id, entry.owner, entry.terms.grantee, msg.sender);
    }

    /// @inheritdoc ISharingGrants
    function permits(uint256 id, Request calldata request) external view override returns (bool) {
        Grant storage entry = _known(id);
        Terms storage terms = entry.terms;
        bool standing = entry.revokedAt == 0 || request.time < entry.revokedAt;
        bool timely = terms.validFrom <= request.time && request.time < terms.validTo;
        return standing && timely && terms.grantee == request.grantee && _isAdmitted(entry.owner)
            && _isAdmitted(request.grantee) && _names(terms.recordTypes, request.recordType)
            && _names(terms.units, request.unit) && _names(terms.purposes, request.purpose)
            && _names(terms.caseKinds, request.caseKind);
    }

    /// @inheritdoc ISharingGrants
    function grantAt(uint256 id) external view override returns (Grant memory) {
        return _known(id);
    }

    /// @inheritdoc ISharingGrants
    function grantCount() external view override returns (uint256) {
        return _grants.length;
    }

    /// @inheritdoc ISharingGrants
    function grantsBy(DepartmentId owner) external view override returns (uint256[] memory) {
        return _by[owner];
    }

    /// @inheritdoc ISharingGrants
    function grantsTo(DepartmentId grantee) external view override returns (uint256[] memory) {
        return _to[grantee];
    }

    function _known(uint256 id) private view returns (Grant storage) {
        if (id >= _grants.length) revert SharingGrantsUnknown(id);
        return _grants[id];
    }

    function _requireActsFor(DepartmentId owner) private view {
        if (!consortium.actsFor(owner, msg.sender)) revert SharingGrantsUnauthorised(owner, msg.sender);
    }

    function _requireAdmitted(DepartmentId id) private view {
        IConsortium.DepartmentState state = consortium.stateOf(id);
        if (state != IConsortium.DepartmentState.Admitted) revert SharingGrantsNotAdmitted(id, state);
    }

    function _isAdmitted(DepartmentId id) private view returns (bool) {
        return consortium.stateOf(id) == IConsortium.DepartmentState.Admitted;
    }

    function _requireValidity(uint64 validFrom, uint64 validTo) private view {
        // A grant from yesterday would make yesterday's extraction look allowed.
        uint256 earliest = block.timestamp - CLOCK_SKEW;
        if (validFrom < earliest) revert SharingGrantsBackdated(validFrom, earliest);
        if (validTo <= validFrom || validTo <= block.timestamp) revert SharingGrantsValidity(validFrom, validTo);
    }

    function _requireNamed(Terms calldata terms) private pure {
        if (terms.perDay == 0) revert SharingGrantsNothingNamed("perDay");
        _requireTerms(terms.recordTypes, "recordTypes");
        _requireTerms(terms.units, "units");
        _requireTerms(terms.purposes, "purposes");
        _requireTerms(terms.caseKinds, "caseKinds");
    }

    function _requireTerms(Term[] calldata list, string memory field) private pure {
        if (list.length == 0) revert SharingGrantsNothingNamed(field);
        if (list.length > MAX_TERMS) revert SharingGrantsTooManyTerms(field, list.length);
        for (uint256 i; i < list.length; ++i) {
            if (Term.unwrap(list[i]) == 0) revert SharingGrantsTermEmpty(field, i);
        }
    }

    function _names(Term[] storage list, Term asked) private view returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (Term.unwrap(list[i]) == Term.unwrap(asked)) return true;
        }
        return false;
    }
}
