// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev A department and its log share one id: ASCII `[a-z][a-z0-9-]{1,30}`, right-padded with zero bytes.
type DepartmentId is bytes32;

/// @dev An ASCII name of the field (a record type, a purpose), right-padded with zero bytes.
type Term is bytes32;

/// @dev RFC 7638 SHA-256 JWK thumbprint of a public key.
type KeyId is bytes32;

/// @dev ASCII name of a contract the consortium runs ("EvidenceLog"), right-padded with zero bytes.
type ModuleName is bytes32;

/// @dev The module that holds the logs' roots.
ModuleName constant EVIDENCE_LOG = ModuleName.wrap("EvidenceLog");

function sameDepartment(DepartmentId a, DepartmentId b) pure returns (bool) {
    return DepartmentId.unwrap(a) == DepartmentId.unwrap(b);
}

using {sameDepartment as ==} for DepartmentId global;

/// @title Who belongs to the consortium, with which keys, and how that changes
/// @notice Set-up: only the deployer acts, until it calls `closeSetup`, once. From then on membership, the minimum
/// number of votes and the modules change only through a proposal that enough admitted departments approved; the
/// deployer has no power left. A department looks after its own keys, node URL and governance account without a vote,
/// through its governance account, and cannot reach back in time with them. Whatever a department may do for itself,
/// the others may do for it by vote (a lost governance account, a compromised key): the event says which it was.
interface IConsortium {
    enum DepartmentState {
        Unknown,
        Admitted,
        Suspended
    }

    enum KeyUse {
        Unknown,
        Statement,
        Log,
        Encryption,
        Anchor,
        Witness,
        Validator,
        Request
    }

    /// @dev `name` is for people; `logOrigin` is the C2SP checkpoint origin, unique and never changed.
    struct Department {
        DepartmentState state;
        uint64 admittedAt;
        address governor;
        string name;
        string logOrigin;
        string nodeUrl;
    }

    /// @dev Valid in [validFrom, validTo), Unix seconds; validTo 0 = open. Never deleted, never bound anew.
    /// `publicKey` is the raw key of its algorithm: Ed25519 and X25519 32 bytes; secp256k1 64 bytes x || y.
    struct Key {
        DepartmentId department;
        KeyUse use;
        uint64 validFrom;
        uint64 validTo;
        bytes publicKey;
    }

    /// @dev `actionHash` is keccak256 of the calldata this contract will call itself with.
    struct Proposal {
        bytes32 actionHash;
        uint64 expiresAt;
        bool executed;
        DepartmentId proposer;
        DepartmentId[] approvals;
    }

    event DepartmentAdmitted(DepartmentId indexed id, string name, string logOrigin, string nodeUrl, address governor);
    event DepartmentSuspended(DepartmentId indexed id);
    event DepartmentReinstated(DepartmentId indexed id);
    event NodeUrlChanged(DepartmentId indexed id, string nodeUrl, address by);
    event GovernorChanged(DepartmentId indexed id, address indexed previous, address indexed governor, address by);
    /// @dev `by` is this contract's own address when the change was voted.
    event KeyRegistered(
        DepartmentId indexed department, KeyId indexed kid, KeyUse use, bytes publicKey, uint64 validFrom, address by
    );
    event KeyClosed(DepartmentId indexed department, KeyId indexed kid, uint64 validTo, address by);
    event ModuleChanged(ModuleName indexed name, address indexed previous, address indexed module);
    event MinimumVotesChanged(uint16 previous, uint16 minimum);
    event SetupClosed(uint16 minimumVotes, uint256 departments);
    /// @dev `action` is the whole calldata, so that a department can read what it is asked to approve.
    event Proposed(uint256 indexed proposal, DepartmentId indexed proposer, bytes action, uint64 expiresAt);
    event Approved(uint256 indexed proposal, DepartmentId indexed department);
    event ApprovalWithdrawn(uint256 indexed proposal, DepartmentId indexed department);
    event Executed(uint256 indexed proposal);

    error ConsortiumSetupStillOpen();
    error ConsortiumSetupAlreadyClosed();
    /// @dev Neither the deployer during set-up, nor a vote, nor (where it may) the department's governance account.
    error ConsortiumUnauthorised(address account);
    error ConsortiumDepartmentIdMalformed(DepartmentId id);
    error ConsortiumDepartmentExists(DepartmentId id);
    error ConsortiumDepartmentUnknown(DepartmentId id);
    error ConsortiumDepartmentNotAdmitted(DepartmentId id, DepartmentState state);
    error ConsortiumDepartmentNotSuspended(DepartmentId id, DepartmentState state);
    error ConsortiumOriginEmpty(DepartmentId id);
    error ConsortiumOriginTaken(string logOrigin);
    error ConsortiumGovernorMissing(DepartmentId id);
    error ConsortiumGovernorTaken(address governor, DepartmentId by);
    error ConsortiumKeyIdMissing(DepartmentId department);
    error ConsortiumKeyExists(KeyId kid, DepartmentId department);
    error ConsortiumKeyUnknown(KeyId kid, DepartmentId department);
    error ConsortiumKeyUseUnknown(KeyId kid);
    error ConsortiumPublicKeyLength(KeyId kid, uint256 length);
    error ConsortiumKeyBackdated(KeyId kid, uint64 validFrom, uint256 earliest);
    error ConsortiumKeyClosedInThePast(KeyId kid, uint64 validTo, uint256 earliest);
    /// @dev A closed interval can be shortened while it still runs, never lengthened or opened again.
    error ConsortiumKeyAlreadyClosed(KeyId kid, uint64 validTo);
    error ConsortiumAnchorAccountTaken(address account, KeyId by);
    error ConsortiumModuleWithoutCode(ModuleName name, address module);
    /// @dev An EvidenceLog may be replaced only by one that names it as its predecessor: histories go on.
    error ConsortiumNotSuccessor(address module, address current, address predecessor);
    error ConsortiumMinimumVotes(uint16 minimum, uint256 admitted);
    error ConsortiumNotAGovernor(address account);
    error ConsortiumExpiry(uint64 expiresAt, uint256 latest);
    error ConsortiumProposalUnknown(uint256 proposal);
    error ConsortiumProposalExpired(uint256 proposal, uint64 expiresAt);
    error ConsortiumProposalExecuted(uint256 proposal);
    error ConsortiumAlreadyApproved(uint256 proposal, DepartmentId department);
    error ConsortiumNotApproved(uint256 proposal, DepartmentId department);
    error ConsortiumOtherAction(uint256 proposal, bytes32 given, bytes32 proposed);
    error ConsortiumTooFewVotes(uint256 proposal, uint256 votes, uint256 needed);

    /// @notice Admit a department. By the deployer during set-up, by vote afterwards.
    /// @param governor the account that votes and acts for the department; one department each
    function admit(
        DepartmentId id,
        string calldata name,
        string calldata logOrigin,
        string calldata nodeUrl,
        address governor
    ) external;

    /// @notice A suspended department neither anchors nor votes nor opens keys; what it sealed before stays valid.
    /// After set-up the last departments that the minimum number of votes needs cannot be suspended.
    function suspend(DepartmentId id) external;

    function reinstate(DepartmentId id) external;

    /// @notice Point a module's name at a contract; the modules themselves cannot be changed. A new EvidenceLog must
    /// name the one it replaces as its predecessor. What else its code does is for those who vote to read.
    function setModule(ModuleName name, address moduleAddress) external;

    /// @notice At least 2, at most the number of admitted departments; `votesNeeded` never falls under a majority.
    function setMinimumVotes(uint16 minimum) external;

    /// @notice End set-up, for ever. Needs two admitted departments.
    function closeSetup(uint16 minimum) external;

    /// @notice Open a key. By vote, or by the admitted department itself.
    /// @dev `kid` is not recomputed here: readers must check that it is the public key's thumbprint. An Anchor key's
    /// account is derived from its 64 bytes, and one account serves one key for ever.
    /// @param validFrom not earlier than the block's time less `CLOCK_SKEW`
    function registerKey(
        DepartmentId id,
        KeyId kid,
        KeyUse use,
        bytes calldata publicKey,
        uint64 validFrom
    ) external;

    /// @notice Close a key, or bring the end of a closing one forward. By vote, or by the department itself, even
    /// when suspended.
    /// @param validTo not earlier than the block's time and the key's own validFrom
    function closeKey(DepartmentId id, KeyId kid, uint64 validTo) external;

    /// @notice Close one key and open its successor of the same use at one instant, `changeover`, not in the past.
    function rotateKey(DepartmentId id, KeyId oldKid, KeyId newKid, bytes calldata publicKey, uint64 changeover)
        external;

    function setNodeUrl(DepartmentId id, string calldata nodeUrl) external;

    function setGovernor(DepartmentId id, address governor) external;

    /// @notice Propose a call of this contract on itself; counts as the proposer's approval.
    /// @param expiresAt Unix seconds, in the future, at most `PROPOSAL_LIFETIME` away
    function propose(bytes calldata action, uint64 expiresAt) external returns (uint256 proposal);

    function approve(uint256 proposal) external;

    function withdrawApproval(uint256 proposal) external;

    /// @notice Carry out what enough departments approved. Only approvals of departments that are admitted now count.
    /// @param action the proposed calldata again; its errors come back unchanged, and the proposal then stays open
    function execute(uint256 proposal, bytes calldata action) external;

    function stateOf(DepartmentId id) external view returns (DepartmentState);

    function setupOpen() external view returns (bool);

    function deployer() external view returns (address);

    /// @notice The greater of the agreed minimum and a majority of the departments admitted now.
    function votesNeeded() external view returns (uint256);

    function minimumVotes() external view returns (uint16);

    function admittedCount() external view returns (uint256);

    /// @notice Every department ever admitted, in order of admission.
    function departmentIds() external view returns (DepartmentId[] memory);

    function department(DepartmentId id) external view returns (Department memory);

    /// @notice The zero id when the account votes for nobody.
    function departmentOfGovernor(address governor) external view returns (DepartmentId);

    function key(KeyId kid) external view returns (Key memory);

    /// @notice Every key a department ever had, in order of registration.
    function keyIds(DepartmentId id) external view returns (KeyId[] memory);

    /// @notice Whether `kid` was `id`'s key for `use` at `time` (Unix seconds).
    function isKeyValidAt(DepartmentId id, KeyId kid, KeyUse use, uint64 time) external view returns (bool);

    /// @notice Whether `account` belongs to an Anchor key of `id` that is valid now. Says nothing of suspension.
    function isAnchorer(DepartmentId id, address account) external view returns (bool);

    /// @notice Whether `account` acts for `id` now: as its governance account or one of its anchoring accounts.
    /// Says nothing of suspension.
    function actsFor(DepartmentId id, address account) external view returns (bool);

    /// @notice What a module must know before it acts for a department, in one call.
    function standing(DepartmentId id, address account)
        external
        view
        returns (DepartmentState state, bool anchors);

    /// @notice The zero address when nothing is registered under the name.
    function module(ModuleName name) external view returns (address);

    function proposalCount() external view returns (uint256);

    function proposalAt(uint256 proposal) external view returns (Proposal memory);
}
