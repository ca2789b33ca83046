// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, EVIDENCE_LOG, IConsortium} from "./interfaces/IConsortium.sol";
import {IEvidenceLog} from "./interfaces/IEvidenceLog.sol";
import {Rfc9162} from "./Rfc9162.sol";

/// @title EvidenceLog
contract EvidenceLog is IEvidenceLog {
    /// @inheritdoc IEvidenceLog
    IConsortium public immutable override consortium;
    /// @inheritdoc IEvidenceLog
    IEvidenceLog public immutable override predecessor;

    // Storage proofs are made against this layout (eth_getProof): `_size` at slot 0, `_anchors` at slot 1.
    mapping(DepartmentId logId => uint64) private _size;
    mapping(DepartmentId logId => mapping(uint64 size => Anchor)) private _anchors;

    constructor(IConsortium consortium_, IEvidenceLog predecessor_) {
        consortium = consortium_;
        predecessor = predecessor_;
    }

    /// @inheritdoc IEvidenceLog
    function anchor(DepartmentId logId, uint64 size, bytes32 root, bytes32[] calldata consistencyProof)
        external
        override
    {
        _requireCurrent();
        _requireAnchorer(logId, msg.sender);
        if (size == 0) revert EvidenceLogEmptyTree(logId);
        (uint64 anchored, bytes32 anchoredRoot) = _headOf(logId);
        if (size < anchored) revert EvidenceLogShrunk(logId, size, anchored);
        if (anchored == 0) {
            if (consistencyProof.length != 0) revert Rfc9162.Rfc9162ProofTooLong(consistencyProof.length);
        } else {
            if (size == anchored) {
                if (root != anchoredRoot) revert EvidenceLogForked(logId, size, root, anchoredRoot);
                return;
            }
            _requireConsistent(logId, anchored, anchoredRoot, size, root, consistencyProof);
        }
        _anchors[logId][size] = Anchor(root, size, anchored, uint64(block.number), uint64(block.timestamp));
        _size[logId] = size;
        emit Anchored(logId, size, root, anchored, msg.sender);
    }

    /// @inheritdoc IEvidenceLog
    function head(DepartmentId logId) external view override returns (Anchor memory) {
        uint64 size = _size[logId];
        if (size == 0 && _succeeds()) return predecessor.head(logId);
        return _anchors[logId][size];
    }

    /// @inheritdoc IEvidenceLog
    function rootAt(DepartmentId logId, uint64 size) external view override returns (Anchor memory) {
        return _anchorAt(logId, size);
    }

    /// @inheritdoc IEvidenceLog
    function verifyInclusion(
        DepartmentId logId,
        uint64 size,
        bytes32 leafHash,
        uint64 index,
        bytes32[] calldata path
    ) external view override returns (Anchor memory) {
        Anchor memory anchored = _anchorAt(logId, size);
        bytes32 proven = Rfc9162.rootFromInclusion(index, size, leafHash, path);
        if (proven != anchored.root) revert EvidenceLogNotIncluded(logId, size, index, proven);
        return anchored;
    }

    function _anchorAt(DepartmentId logId, uint64 size) private view returns (Anchor memory anchored) {
        anchored = _anchors[logId][size];
        if (anchored.size != 0) return anchored;
        if (!_succeeds()) revert EvidenceLogNotAnchored(logId, size);
        return predecessor.rootAt(logId, size);
    }

    /// @dev The head's size and root, 0 for a log that was never anchored. A predecessor's head stands still: it is no
    /// longer current.
    function _headOf(DepartmentId logId) private view returns (uint64 size, bytes32 root) {
        size = _size[logId];
        if (size != 0) return (size, _anchors[logId][size].root);
        if (!_succeeds()) return (0, 0);
        Anchor memory last = predecessor.head(logId);
        return (last.size, last.root);
    }

    function _succeeds() private view returns (bool) {
        return address(predecessor) != address(0);
    }

    /// @dev A contract that was replaced, or not yet named, would be a second place with a head of its own.
    function _requireCurrent() private view {
        address current = consortium.module(EVIDENCE_LOG);
        if (current != address(this)) revert EvidenceLogNotCurrent(current);
    }

    function _requireAnchorer(DepartmentId logId, address account) private view {
        (IConsortium.DepartmentState state, bool anchors) = consortium.standing(logId, account);
        if (state == IConsortium.DepartmentState.Unknown) revert EvidenceLogDepartmentUnknown(logId);
        if (!anchors) revert EvidenceLogNotAnchorer(logId, account);
        if (state == IConsortium.DepartmentState.Suspended) revert EvidenceLogDepartmentSuspended(logId);
    }

    function _requireConsistent(
        DepartmentId logId,
        uint64 anchored,
        bytes32 anchoredRoot,
        uint64 size,
        bytes32 root,
        bytes32[] calldata proof
    ) private view {
        (bytes32 provenOld, bytes32 provenNew) = Rfc9162.rootsFromConsistency(anchored, size, anchoredRoot, proof);
        if (provenOld != anchoredRoot || provenNew != root) {
            revert EvidenceLogInconsistent(logId, anchored, size, provenOld, provenNew);
        }
    }
}
