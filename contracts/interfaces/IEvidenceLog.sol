// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, IConsortium} from "./IConsortium.sol";

/// @title The roots of every department's log, each proven to extend the one before
/// @notice A root stands here only if the contract itself checked the RFC 9162 consistency proof from the root anchored
/// before it. Not checked: that the first root of a log is the root of anything, that the leaves are well formed, that
/// a checkpoint with this size and root was signed. Two sizes of one shape (9 and 10 leaves) take the same proof, so a
/// reader compares an anchor's size and root with the signed checkpoint's, never the root alone.
/// A successor carries on: what its predecessor holds it answers too, and a log's first anchor here must extend the
/// predecessor's head. Only the contract that the Consortium names as "EvidenceLog" takes anchors, so there is one head.
interface IEvidenceLog {
    /// @dev Two storage slots. `previousSize` links every anchor of a log to the one before, 0 at the first.
    struct Anchor {
        bytes32 root;
        uint64 size;
        uint64 previousSize;
        uint64 blockNumber;
        uint64 timestamp;
    }

    event Anchored(
        DepartmentId indexed logId, uint64 indexed size, bytes32 root, uint64 previousSize, address indexed account
    );

    /// @dev `current` is the contract that the Consortium names, zero if none.
    error EvidenceLogNotCurrent(address current);
    error EvidenceLogDepartmentUnknown(DepartmentId logId);
    error EvidenceLogDepartmentSuspended(DepartmentId logId);
    error EvidenceLogNotAnchorer(DepartmentId logId, address account);
    error EvidenceLogEmptyTree(DepartmentId logId);
    error EvidenceLogShrunk(DepartmentId logId, uint64 size, uint64 anchoredSize);
    error EvidenceLogForked(DepartmentId logId, uint64 size, bytes32 root, bytes32 anchoredRoot);
    /// @dev `provenOld` and `provenNew` are what the proof leads to; at least one is not what it must be.
    error EvidenceLogInconsistent(
        DepartmentId logId, uint64 anchoredSize, uint64 size, bytes32 provenOld, bytes32 provenNew
    );
    error EvidenceLogNotAnchored(DepartmentId logId, uint64 size);
    error EvidenceLogNotIncluded(DepartmentId logId, uint64 size, uint64 index, bytes32 provenRoot);

    /// @notice Anchor the tree of `size` leaves with `root`. By an account of an Anchor key of the log's department.
    /// Anchoring what the head already holds succeeds, changes nothing and emits nothing, so a retry is harmless.
    /// @param consistencyProof RFC 9162 section 2.1.4, from the head to `size`; empty for a log's first anchor of all.
    /// Ignored when (size, root) is the head
    function anchor(DepartmentId logId, uint64 size, bytes32 root, bytes32[] calldata consistencyProof) external;

    /// @notice The newest anchor, the predecessor's where there is none here yet; all zero for a log that has none.
    function head(DepartmentId logId) external view returns (Anchor memory);

    /// @notice The anchor at exactly `size`, here or in a predecessor. Refuses sizes that were not anchored.
    function rootAt(DepartmentId logId, uint64 size) external view returns (Anchor memory);

    /// @notice Check an RFC 9162 section 2.1.3 inclusion path against the root anchored at `size`; refuses what does
    /// not verify.
    /// @return the anchor that the leaf was proven to be under
    function verifyInclusion(
        DepartmentId logId,
        uint64 size,
        bytes32 leafHash,
        uint64 index,
        bytes32[] calldata path
    ) external view returns (Anchor memory);

    function consortium() external view returns (IConsortium);

    /// @notice The contract whose history this one carries on; the zero address for the first.
    function predecessor() external view returns (IEvidenceLog);
}
