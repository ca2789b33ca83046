// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, IConsortium, Term} from "./IConsortium.sol";

/// @title Who may extract whose records, for what
/// @notice A grant is the owner's word and nobody else's. It is never changed: other terms are another grant, and a
/// revoked grant stays readable with the time of its end. Nothing is granted that is not named. Not enforced here, but by
/// the owner's node: the daily limit, and that the case exists and concerns the subject.
interface ISharingGrants {
    /// @dev A unit is granted for each listed record type that has a unit of this name. In force in
    /// [validFrom, validTo), Unix seconds; every grant ends.
    struct Terms {
        DepartmentId grantee;
        uint64 validFrom;
        uint64 validTo;
        uint32 perDay;
        Term[] recordTypes;
        Term[] units;
        Term[] purposes;
        Term[] caseKinds;
    }

    /// @dev `revokedAt` is 0 while the grant stands.
    struct Grant {
        DepartmentId owner;
        uint64 grantedAt;
        uint64 revokedAt;
        Terms terms;
    }

    /// @dev What an extraction asks for.
    struct Request {
        DepartmentId grantee;
        Term recordType;
        Term unit;
        Term purpose;
        Term caseKind;
        uint64 time;
    }

    event Granted(uint256 indexed id, DepartmentId indexed owner, DepartmentId indexed grantee, Terms terms, address by);
    event Revoked(uint256 indexed id, DepartmentId indexed owner, DepartmentId indexed grantee, address by);

    error SharingGrantsUnauthorised(DepartmentId owner, address account);
    error SharingGrantsNotAdmitted(DepartmentId department, IConsortium.DepartmentState state);
    error SharingGrantsToItself(DepartmentId owner);
    /// @dev `field` names the list that is empty, or "perDay".
    error SharingGrantsNothingNamed(string field);
    error SharingGrantsTermEmpty(string field, uint256 position);
    error SharingGrantsTooManyTerms(string field, uint256 length);
    error SharingGrantsBackdated(uint64 validFrom, uint256 earliest);
    error SharingGrantsValidity(uint64 validFrom, uint64 validTo);
    error SharingGrantsUnknown(uint256 id);
    error SharingGrantsAlreadyRevoked(uint256 id, uint64 revokedAt);

    /// @notice By an account that acts for the admitted `owner`.
    function grant(DepartmentId owner, Terms calldata terms) external returns (uint256 id);

    /// @notice End a grant now, for ever. By an account that acts for its owner, even a suspended one.
    function revoke(uint256 id) external;

    /// @notice Whether grant `id` covers all that is asked, at `request.time`, with both departments admitted now.
    function permits(uint256 id, Request calldata request) external view returns (bool);

    function grantAt(uint256 id) external view returns (Grant memory);

    function grantCount() external view returns (uint256);

    /// @notice Every grant the department ever gave, oldest first.
    function grantsBy(DepartmentId owner) external view returns (uint256[] memory);

    /// @notice Every grant the department ever got, oldest first.
    function grantsTo(DepartmentId grantee) external view returns (uint256[] memory);

    function consortium() external view returns (IConsortium);
}
