// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, IConsortium} from "./interfaces/IConsortium.sol";
import {IEvidenceLog} from "./interfaces/IEvidenceLog.sol";
import {Rfc9162} from "./Rfc9162.sol";

/// @title EvidenceLog
contract EvidenceLog is IEvidenceLog {
    /// @inheritdoc IEvidenceLog
    IConsortium public immutable override consortium;

    // Storage proofs are made against this layout (eth_getProof): `_size` at slot 0, `_anchors` at slot 1.
    mapping(DepartmentId logId => uint64) private _size;
    mapping(DepartmentId logId => mapping(uint64 size => Anchor)) private _anchors;

    constructor(IConsortium consortium_) {
        consortium = consortium_;
    }

    /// @inheritdoc IEvidenceLog
    function anchor(DepartmentId logId, uint64 size, bytes32 root, bytes32[] calldata consistencyProof)
        external
        override
    {
        _requireAnchorer(logId, msg.sender);
        if (size == 0) revert EvidenceLogEmptyTree(logId);
        uint64 anchored = _size[logId];
        if (size < anchored) revert EvidenceLogShrunk(logId, size, anchored);
        if (anchored == 0) {
            if (consistencyProof.length != 0) revert Rfc9162.Rfc9162ProofTooLong(consistencyProof.length);
        } else {
            bytes32 anchoredRoot = _anchors[logId][anchored].root;
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
        return _anchors[logId][_size[logId]];
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
        if (anchored.size == 0) revert EvidenceLogNotAnchored(logId, size);
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
