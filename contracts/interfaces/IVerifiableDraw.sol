// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DepartmentId, IConsortium} from "./IConsortium.sol";

/// @title Random selection for double-random inspections that nobody can steer alone and anybody can recompute
/// @notice The roster is fixed by its root; then every participant commits to a secret; then the secrets are revealed;
/// seed and selection follow from them by SHA-256 alone. What remains possible: whoever reveals last sees the outcome
/// first and may withhold its secret, which changes the outcome once, unforeseeably to it beforehand, and is recorded
/// against it; and if all who reveal conspire with the validator that seals the block before the first reveal.
///
/// Recomputing, where word(x) is x in 32 bytes big-endian:
///   commitment = SHA-256(word(chain id) || word(contract) || word(draw) || department || secret)
///   seed       = SHA-256(word(chain id) || word(contract) || word(draw) || rosterRoot || entropy
///                        || for every participant in order: department || secret, 32 zero bytes if not revealed)
///   selection  = for n = 0, 1, 2 ...: SHA-256(seed || word(n)) mod rosterSize, leaving out what is there already,
///                until `count` places are found
interface IVerifiableDraw {
    enum DrawState {
        Committing,
        Revealing,
        Drawn,
        Void
    }

    /// @dev A participant's part; zero where it did nothing. `revealed` tells a zero secret from none.
    struct Part {
        DepartmentId department;
        bytes32 commitment;
        bytes32 secret;
        bool revealed;
    }

    /// @dev `rosterRoot` is the RFC 9162 root over the roster's (blinded) entries. `entropy` is the hash of the block
    /// before the first reveal. `seed` is 0 until drawn.
    struct Draw {
        DepartmentId organiser;
        bytes32 planId;
        bytes32 rosterRoot;
        uint64 rosterSize;
        uint64 commitBy;
        uint64 revealBy;
        uint16 count;
        DrawState state;
        bytes32 entropy;
        bytes32 seed;
        Part[] parts;
    }

    /// @dev What the organiser fixes. One draw per organiser and `planId`, so a draw cannot be repeated till it suits.
    struct Plan {
        bytes32 planId;
        bytes32 rosterRoot;
        uint64 rosterSize;
        uint64 commitBy;
        uint64 revealBy;
        uint16 count;
        DepartmentId[] participants;
    }

    event DrawOpened(uint256 indexed draw, DepartmentId indexed organiser, bytes32 indexed planId, Plan plan);
    event DrawCommitted(uint256 indexed draw, DepartmentId indexed department, bytes32 commitment);
    event DrawRevealed(uint256 indexed draw, DepartmentId indexed department, bytes32 secret);
    /// @dev A participant that did not commit, or committed and did not reveal.
    event DrawMissed(uint256 indexed draw, DepartmentId indexed department, bool committed);
    event DrawFinished(uint256 indexed draw, bytes32 seed);
    event DrawVoided(uint256 indexed draw);

    error VerifiableDrawUnauthorised(DepartmentId department, address account);
    error VerifiableDrawNotAdmitted(DepartmentId department, IConsortium.DepartmentState state);
    error VerifiableDrawPlanTaken(DepartmentId organiser, bytes32 planId, uint256 draw);
    error VerifiableDrawCount(uint16 count, uint64 rosterSize);
    error VerifiableDrawTimes(uint64 commitBy, uint64 revealBy, uint256 now_);
    error VerifiableDrawParticipants(uint256 count);
    error VerifiableDrawParticipantTwice(DepartmentId department);
    error VerifiableDrawUnknown(uint256 draw);
    error VerifiableDrawNotParticipant(uint256 draw, DepartmentId department);
    error VerifiableDrawCommitOver(uint256 draw, uint64 commitBy);
    error VerifiableDrawAlreadyCommitted(uint256 draw, DepartmentId department);
    error VerifiableDrawCommitmentMissing(uint256 draw, DepartmentId department);
    error VerifiableDrawCommitOpen(uint256 draw, uint64 commitBy);
    error VerifiableDrawRevealOver(uint256 draw, uint64 revealBy);
    error VerifiableDrawAlreadyRevealed(uint256 draw, DepartmentId department);
    error VerifiableDrawOtherSecret(uint256 draw, DepartmentId department, bytes32 commitment);
    error VerifiableDrawRevealOpen(uint256 draw, uint64 revealBy);
    error VerifiableDrawFinished(uint256 draw, DrawState state);
    error VerifiableDrawNotDrawn(uint256 draw, DrawState state);
    error VerifiableDrawNotSelected(uint256 draw, uint64 index);
    error VerifiableDrawNotInRoster(uint256 draw, uint64 index, bytes32 provenRoot);

    /// @notice Fix roster, number, participants (2 to 64) and deadlines. By an account acting for the organiser.
    function open(DepartmentId organiser, Plan calldata plan) external returns (uint256 draw);

    /// @notice Commit, once, before `commitBy`.
    function commit(uint256 draw, DepartmentId department, bytes32 commitment) external;

    /// @notice Reveal after `commitBy` (or once all have committed) and before `revealBy`.
    function reveal(uint256 draw, DepartmentId department, bytes32 secret) external;

    /// @notice Draw, by anyone, after `revealBy` or once all have revealed. Who failed to is recorded and does not hold
    /// it up; void only if nobody revealed.
    function finish(uint256 draw) external;

    function drawCount() external view returns (uint256);

    function drawAt(uint256 draw) external view returns (Draw memory);

    /// @notice The selected places of the roster, from 0, in the order drawn.
    function selection(uint256 draw) external view returns (uint64[] memory);

    /// @notice Check that the entry with `leafHash` stands at `index` of the roster and was selected; refuses otherwise.
    function verifySelected(uint256 draw, uint64 index, bytes32 leafHash, bytes32[] calldata path) external view;

    function commitmentOf(uint256 draw, DepartmentId department, bytes32 secret) external view returns (bytes32);

    function consortium() external view returns (IConsortium);
}
