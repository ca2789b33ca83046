// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, IConsortium} from "./interfaces/IConsortium.sol";
import {IVerifiableDraw} from "./interfaces/IVerifiableDraw.sol";
import {Rfc9162} from "./Rfc9162.sol";

/// @title VerifiableDraw
contract VerifiableDraw is IVerifiableDraw {
    /// @notice The most places one draw selects: `selection` compares each with all before it.
    uint16 public constant MAX_COUNT = 128;

    uint256 private constant FEWEST_PARTICIPANTS = 2;
    uint256 private constant MOST_PARTICIPANTS = 64;

    /// @inheritdoc IVerifiableDraw
    IConsortium public immutable override consortium;

    Draw[] private _draws;
    // The draw's number plus one, so that 0 means none.
    mapping(DepartmentId organiser => mapping(bytes32 planId => uint256)) private _drawOfPlan;

    constructor(IConsortium consortium_) {
        consortium = consortium_;
    }

    /// @inheritdoc IVerifiableDraw
    function open(DepartmentId organiser, Plan calldata plan) external override returns (uint256 draw) {
        _requireActsFor(organiser);
        uint256 taken = _drawOfPlan[organiser][plan.planId];
        if (taken != 0) revert VerifiableDrawPlanTaken(organiser, plan.planId, taken - 1);
        _requireSound(plan);
        draw = _draws.length;
        _drawOfPlan[organiser][plan.planId] = draw + 1;
        Draw storage entry = _draws.push();
        entry.organiser = organiser;
        entry.planId = plan.planId;
        entry.rosterRoot = plan.rosterRoot;
        entry.rosterSize = plan.rosterSize;
        entry.commitBy = plan.commitBy;
        entry.revealBy = plan.revealBy;
        entry.count = plan.count;
        for (uint256 i; i < plan.participants.length; ++i) _addPart(entry, plan.participants[i]);
        emit DrawOpened(draw, organiser, plan.planId, plan);
    }

    /// @inheritdoc IVerifiableDraw
    function commit(uint256 draw, DepartmentId department, bytes32 commitment) external override {
        _requireActsFor(department);
        Draw storage entry = _known(draw);
        Part storage part = _partOf(draw, entry, department);
        if (block.timestamp >= entry.commitBy) revert VerifiableDrawCommitOver(draw, entry.commitBy);
        if (part.commitment != 0) revert VerifiableDrawAlreadyCommitted(draw, department);
        if (commitment == 0) revert VerifiableDrawCommitmentMissing(draw, department);
        part.commitment = commitment;
        emit DrawCommitted(draw, department, commitment);
    }

    /// @inheritdoc IVerifiableDraw
    function reveal(uint256 draw, DepartmentId department, bytes32 secret) external override {
        _requireActsFor(department);
        Draw storage entry = _known(draw);
        Part storage part = _partOf(draw, entry, department);
        _requireRevealing(draw, entry);
        if (part.revealed) revert VerifiableDrawAlreadyRevealed(draw, department);
        bytes32 commitment = part.commitment;
        if (commitment == 0 || commitment != commitmentOf(draw, department, secret)) {
            revert VerifiableDrawOtherSecret(draw, department, commitment);
        }
        if (entry.state == DrawState.Committing) {
            entry.state = DrawState.Revealing;
            entry.entropy = blockhash(block.number - 1);
        }
        part.secret = secret;
        part.revealed = true;
        emit DrawRevealed(draw, department, secret);
    }

    /// @inheritdoc IVerifiableDraw
    function finish(uint256 draw) external override {
        Draw storage entry = _known(draw);
        if (entry.state >= DrawState.Drawn) revert VerifiableDrawFinished(draw, entry.state);
        if (block.timestamp < entry.revealBy && !_allRevealed(entry)) {
            revert VerifiableDrawRevealOpen(draw, entry.revealBy);
        }
        _recordMissed(draw, entry);
        if (entry.state == DrawState.Committing) {
            entry.state = DrawState.Void;
            emit DrawVoided(draw);
        } else {
            entry.state = DrawState.Drawn;
            entry.seed = _seedOf(draw, entry);
            emit DrawFinished(draw, entry.seed);
        }
    }

    /// @inheritdoc IVerifiableDraw
    function drawCount() external view override returns (uint256) {
        return _draws.length;
    }

    /// @inheritdoc IVerifiableDraw
    function drawAt(uint256 draw) external view override returns (Draw memory) {
        return _known(draw);
    }

    /// @inheritdoc IVerifiableDraw
    function selection(uint256 draw) external view override returns (uint64[] memory) {
        return _selection(draw, _known(draw));
    }

    /// @inheritdoc IVerifiableDraw
    function verifySelected(uint256 draw, uint64 index, bytes32 leafHash, bytes32[] calldata path)
        external
        view
        override
    {
        Draw storage entry = _known(draw);
        uint64[] memory selected = _selection(draw, entry);
        if (!_holds(selected, selected.length, index)) revert VerifiableDrawNotSelected(draw, index);
        bytes32 proven = Rfc9162.rootFromInclusion(index, entry.rosterSize, leafHash, path);
        if (proven != entry.rosterRoot) revert VerifiableDrawNotInRoster(draw, index, proven);
    }

    /// @inheritdoc IVerifiableDraw
    function commitmentOf(uint256 draw, DepartmentId department, bytes32 secret)
        public
        view
        override
        returns (bytes32)
    {
        return sha256(abi.encode(block.chainid, address(this), draw, department, secret));
    }

    // ---- checks ----

    function _known(uint256 draw) private view returns (Draw storage) {
        if (draw >= _draws.length) revert VerifiableDrawUnknown(draw);
        return _draws[draw];
    }

    function _requireActsFor(DepartmentId department) private view {
        if (!consortium.actsFor(department, msg.sender)) revert VerifiableDrawUnauthorised(department, msg.sender);
        _requireAdmitted(department);
    }

    function _requireAdmitted(DepartmentId department) private view {
        IConsortium.DepartmentState state = consortium.stateOf(department);
        if (state != IConsortium.DepartmentState.Admitted) revert VerifiableDrawNotAdmitted(department, state);
    }

    function _requireSound(Plan calldata plan) private view {
        if (plan.count == 0 || plan.count > MAX_COUNT || plan.count > plan.rosterSize) {
            revert VerifiableDrawCount(plan.count, plan.rosterSize);
        }
        if (plan.commitBy <= block.timestamp || plan.revealBy <= plan.commitBy) {
            revert VerifiableDrawTimes(plan.commitBy, plan.revealBy, block.timestamp);
        }
        uint256 participants = plan.participants.length;
        if (participants < FEWEST_PARTICIPANTS || participants > MOST_PARTICIPANTS) {
            revert VerifiableDrawParticipants(participants);
        }
    }

    function _addPart(Draw storage entry, DepartmentId department) private {
        _requireAdmitted(department);
        if (_positionOf(entry, department) < entry.parts.length) revert VerifiableDrawParticipantTwice(department);
        entry.parts.push(Part(department, 0, 0, false));
    }

    function _positionOf(Draw storage entry, DepartmentId department) private view returns (uint256 position) {
        while (position < entry.parts.length && !(entry.parts[position].department == department)) ++position;
    }

    function _partOf(uint256 draw, Draw storage entry, DepartmentId department) private view returns (Part storage) {
        uint256 position = _positionOf(entry, department);
        if (position == entry.parts.length) revert VerifiableDrawNotParticipant(draw, department);
        return entry.parts[position];
    }

    function _requireRevealing(uint256 draw, Draw storage entry) private view {
        if (entry.state >= DrawState.Drawn) revert VerifiableDrawFinished(draw, entry.state);
        if (block.timestamp >= entry.revealBy) revert VerifiableDrawRevealOver(draw, entry.revealBy);
        if (block.timestamp < entry.commitBy && !_allCommitted(entry)) {
            revert VerifiableDrawCommitOpen(draw, entry.commitBy);
        }
    }

    function _allCommitted(Draw storage entry) private view returns (bool) {
        for (uint256 i; i < entry.parts.length; ++i) {
            if (entry.parts[i].commitment == 0) return false;
        }
        return true;
    }

    function _allRevealed(Draw storage entry) private view returns (bool) {
        for (uint256 i; i < entry.parts.length; ++i) {
            if (!entry.parts[i].revealed) return false;
        }
        return true;
    }

    // ---- the drawing ----

    function _recordMissed(uint256 draw, Draw storage entry) private {
        for (uint256 i; i < entry.parts.length; ++i) {
            Part storage part = entry.parts[i];
            if (!part.revealed) emit DrawMissed(draw, part.department, part.commitment != 0);
        }
    }

    function _seedOf(uint256 draw, Draw storage entry) private view returns (bytes32) {
        bytes memory input = abi.encode(block.chainid, address(this), draw, entry.rosterRoot, entry.entropy);
        for (uint256 i; i < entry.parts.length; ++i) {
            input = bytes.concat(input, abi.encode(entry.parts[i].department, entry.parts[i].secret));
        }
        return sha256(input);
    }

    function _selection(uint256 draw, Draw storage entry) private view returns (uint64[] memory selected) {
        if (entry.state != DrawState.Drawn) revert VerifiableDrawNotDrawn(draw, entry.state);
        selected = new uint64[](entry.count);
        uint256 found;
        for (uint256 n; found < selected.length; ++n) {
            // The bias of the remainder is below 2^-192: the roster's size fits 64 bits.
            uint64 place = uint64(uint256(sha256(abi.encode(entry.seed, n))) % entry.rosterSize);
            if (!_holds(selected, found, place)) selected[found++] = place;
        }
    }

    function _holds(uint64[] memory places, uint256 length, uint64 place) private pure returns (bool) {
        for (uint256 i; i < length; ++i) {
            if (places[i] == place) return true;
        }
        return false;
    }
}
