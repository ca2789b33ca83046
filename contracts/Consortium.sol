// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {DepartmentId, EVIDENCE_LOG, IConsortium, KeyId, ModuleName} from "./interfaces/IConsortium.sol";
import {IEvidenceLog} from "./interfaces/IEvidenceLog.sol";

/// @title Consortium
/// @dev OpenZeppelin's AccessControl and Governor do not fit: the first has an administrator who acts alone, the second
/// counts tokens. Here one gate, `_requireGovernance`, stands before everything that is the consortium's to decide.
contract Consortium is IConsortium {
    /// @notice How far a new key's validFrom may lie before the block's time: clocks differ, history must not.
    uint64 public constant CLOCK_SKEW = 5 minutes;

    /// @notice The longest a proposal can wait for votes.
    uint64 public constant PROPOSAL_LIFETIME = 30 days;

    uint16 private constant SMALLEST_MINIMUM = 2;
    uint256 private constant ANCHOR_KEY_LENGTH = 64;
    uint256 private constant LONGEST_PUBLIC_KEY = 4096;

    /// @inheritdoc IConsortium
    address public immutable override deployer;
    /// @inheritdoc IConsortium
    bool public override setupOpen = true;
    /// @inheritdoc IConsortium
    uint16 public override minimumVotes;
    /// @inheritdoc IConsortium
    uint256 public override admittedCount;
    /// @inheritdoc IConsortium
    mapping(address governor => DepartmentId) public override departmentOfGovernor;
    /// @inheritdoc IConsortium
    mapping(ModuleName name => address) public override module;

    mapping(DepartmentId id => Department) private _departments;
    DepartmentId[] private _departmentIds;
    mapping(bytes32 originHash => bool) private _originTaken;
    mapping(KeyId kid => Key) private _keys;
    mapping(DepartmentId department => KeyId[]) private _keyIds;
    mapping(address account => KeyId) private _anchorKeys;
    Proposal[] private _proposals;

    modifier onlyGovernance() {
        _requireGovernance();
        _;
    }

    modifier onlyDepartmentOrGovernance(DepartmentId id) {
        if (setupOpen || !_governs(msg.sender, id)) _requireGovernance();
        _;
    }

    constructor() {
        deployer = msg.sender;
    }

    // ---- decided by the deployer during set-up, by vote afterwards ----

    /// @inheritdoc IConsortium
    function admit(
        DepartmentId id,
        string calldata name,
        string calldata logOrigin,
        string calldata nodeUrl,
        address governor
    ) external override onlyGovernance {
        _requireWellFormed(id);
        if (_departments[id].state != DepartmentState.Unknown) revert ConsortiumDepartmentExists(id);
        _takeOrigin(id, logOrigin);
        _takeGovernor(id, governor);
        _departments[id] =
            Department(DepartmentState.Admitted, uint64(block.timestamp), governor, name, logOrigin, nodeUrl);
        _departmentIds.push(id);
        ++admittedCount;
        emit DepartmentAdmitted(id, name, logOrigin, nodeUrl, governor);
    }

    /// @inheritdoc IConsortium
    function suspend(DepartmentId id) external override onlyGovernance {
        _requireAdmitted(id);
        uint256 left = admittedCount - 1;
        // Fewer members than the minimum could never pass another vote.
        if (!setupOpen && left < minimumVotes) revert ConsortiumMinimumVotes(minimumVotes, left);
        admittedCount = left;
        _departments[id].state = DepartmentState.Suspended;
        emit DepartmentSuspended(id);
    }

    /// @inheritdoc IConsortium
    function reinstate(DepartmentId id) external override onlyGovernance {
        DepartmentState state = _known(id).state;
        if (state != DepartmentState.Suspended) revert ConsortiumDepartmentNotSuspended(id, state);
        ++admittedCount;
        _departments[id].state = DepartmentState.Admitted;
        emit DepartmentReinstated(id);
    }

    /// @inheritdoc IConsortium
    function setModule(ModuleName name, address moduleAddress) external override onlyGovernance {
        if (moduleAddress.code.length == 0) revert ConsortiumModuleWithoutCode(name, moduleAddress);
        if (ModuleName.unwrap(name) == ModuleName.unwrap(EVIDENCE_LOG)) _requireSuccessor(moduleAddress);
        emit ModuleChanged(name, module[name], moduleAddress);
        module[name] = moduleAddress;
    }

    /// @inheritdoc IConsortium
    function setMinimumVotes(uint16 minimum) external override onlyGovernance {
        _setMinimumVotes(minimum);
    }

    /// @inheritdoc IConsortium
    function closeSetup(uint16 minimum) external override onlyGovernance {
        if (!setupOpen) revert ConsortiumSetupAlreadyClosed();
        _setMinimumVotes(minimum);
        setupOpen = false;
        emit SetupClosed(minimum, admittedCount);
    }

    // ---- a department's own, or by vote for it ----

    /// @inheritdoc IConsortium
    function registerKey(
        DepartmentId id,
        KeyId kid,
        KeyUse use,
        bytes calldata publicKey,
        uint64 validFrom
    ) external override onlyDepartmentOrGovernance(id) {
        uint256 earliest = block.timestamp - CLOCK_SKEW;
        if (validFrom < earliest) revert ConsortiumKeyBackdated(kid, validFrom, earliest);
        _openKey(id, kid, use, publicKey, validFrom);
    }

    /// @inheritdoc IConsortium
    function closeKey(DepartmentId id, KeyId kid, uint64 validTo)
        external
        override
        onlyDepartmentOrGovernance(id)
    {
        _closeKey(id, kid, validTo);
    }

    /// @inheritdoc IConsortium
    function rotateKey(DepartmentId id, KeyId oldKid, KeyId newKid, bytes calldata publicKey, uint64 changeover)
        external
        override
        onlyDepartmentOrGovernance(id)
    {
        _closeKey(id, oldKid, changeover);
        _openKey(id, newKid, _keys[oldKid].use, publicKey, changeover);
    }

    /// @inheritdoc IConsortium
    function setNodeUrl(DepartmentId id, string calldata nodeUrl) external override onlyDepartmentOrGovernance(id) {
        _requireAdmitted(id);
        _departments[id].nodeUrl = nodeUrl;
        emit NodeUrlChanged(id, nodeUrl, msg.sender);
    }

    /// @inheritdoc IConsortium
    function setGovernor(DepartmentId id, address governor) external override onlyDepartmentOrGovernance(id) {
        address previous = _known(id).governor;
        _takeGovernor(id, governor);
        departmentOfGovernor[previous] = DepartmentId.wrap(0);
        _departments[id].governor = governor;
        emit GovernorChanged(id, previous, governor, msg.sender);
    }

    // ---- votes ----

    /// @inheritdoc IConsortium
    function propose(bytes calldata action, uint64 expiresAt) external override returns (uint256 proposal) {
        DepartmentId proposer = _requireVoter(msg.sender);
        uint256 latest = block.timestamp + PROPOSAL_LIFETIME;
        if (expiresAt <= block.timestamp || expiresAt > latest) revert ConsortiumExpiry(expiresAt, latest);
        proposal = _proposals.length;
        Proposal storage entry = _proposals.push();
        entry.actionHash = keccak256(action);
        entry.expiresAt = expiresAt;
        entry.proposer = proposer;
        entry.approvals.push(proposer);
        emit Proposed(proposal, proposer, action, expiresAt);
        emit Approved(proposal, proposer);
    }

    /// @inheritdoc IConsortium
    function approve(uint256 proposal) external override {
        DepartmentId voter = _requireVoter(msg.sender);
        Proposal storage entry = _openProposal(proposal);
        if (_positionOf(entry.approvals, voter) < entry.approvals.length) {
            revert ConsortiumAlreadyApproved(proposal, voter);
        }
        entry.approvals.push(voter);
        emit Approved(proposal, voter);
    }

    /// @inheritdoc IConsortium
    function withdrawApproval(uint256 proposal) external override {
        DepartmentId voter = _requireVoter(msg.sender);
        DepartmentId[] storage approvals = _openProposal(proposal).approvals;
        uint256 position = _positionOf(approvals, voter);
        if (position == approvals.length) revert ConsortiumNotApproved(proposal, voter);
        approvals[position] = approvals[approvals.length - 1];
        approvals.pop();
        emit ApprovalWithdrawn(proposal, voter);
    }

    /// @inheritdoc IConsortium
    function execute(uint256 proposal, bytes calldata action) external override {
        _requireVoter(msg.sender);
        Proposal storage entry = _openProposal(proposal);
        bytes32 given = keccak256(action);
        if (given != entry.actionHash) revert ConsortiumOtherAction(proposal, given, entry.actionHash);
        uint256 votes = _admittedAmong(entry.approvals);
        if (votes < votesNeeded()) revert ConsortiumTooFewVotes(proposal, votes, votesNeeded());
        // Marked first: whatever the call does, this proposal is not carried out twice.
        entry.executed = true;
        emit Executed(proposal);
        Address.functionCall(address(this), action);
    }

    // ---- views ----

    /// @inheritdoc IConsortium
    function votesNeeded() public view override returns (uint256) {
        uint256 majority = admittedCount / 2 + 1;
        return majority > minimumVotes ? majority : minimumVotes;
    }

    /// @inheritdoc IConsortium
    function departmentIds() external view override returns (DepartmentId[] memory) {
        return _departmentIds;
    }

    /// @inheritdoc IConsortium
    function department(DepartmentId id) external view override returns (Department memory) {
        return _known(id);
    }

    /// @inheritdoc IConsortium
    function key(KeyId kid) external view override returns (Key memory entry) {
        entry = _keys[kid];
        if (entry.use == KeyUse.Unknown) revert ConsortiumKeyUnknown(kid, entry.department);
    }

    /// @inheritdoc IConsortium
    function keyIds(DepartmentId id) external view override returns (KeyId[] memory) {
        return _keyIds[id];
    }

    /// @inheritdoc IConsortium
    function isKeyValidAt(DepartmentId id, KeyId kid, KeyUse use, uint64 time) external view override returns (bool) {
        return _isKeyValidAt(id, kid, use, time);
    }

    /// @inheritdoc IConsortium
    function isAnchorer(DepartmentId id, address account) external view override returns (bool) {
        return _isAnchorer(id, account);
    }

    /// @inheritdoc IConsortium
    function actsFor(DepartmentId id, address account) external view override returns (bool) {
        return _governs(account, id) || _isAnchorer(id, account);
    }

    /// @inheritdoc IConsortium
    function stateOf(DepartmentId id) external view override returns (DepartmentState) {
        return _departments[id].state;
    }

    /// @inheritdoc IConsortium
    function standing(DepartmentId id, address account)
        external
        view
        override
        returns (DepartmentState state, bool anchors)
    {
        return (_departments[id].state, _isAnchorer(id, account));
    }

    /// @inheritdoc IConsortium
    function proposalCount() external view override returns (uint256) {
        return _proposals.length;
    }

    /// @inheritdoc IConsortium
    function proposalAt(uint256 proposal) external view override returns (Proposal memory) {
        if (proposal >= _proposals.length) revert ConsortiumProposalUnknown(proposal);
        return _proposals[proposal];
    }

    // ---- the gate ----

    /// @dev The one place that decides who may act for the consortium: the deployer while set-up is open, afterwards
    /// only this contract itself, which calls itself nowhere but in `execute`.
    function _requireGovernance() private view {
        address allowed = setupOpen ? deployer : address(this);
        if (msg.sender != allowed) revert ConsortiumUnauthorised(msg.sender);
    }

    function _governs(address account, DepartmentId id) private view returns (bool) {
        return _departments[id].governor == account && account != address(0);
    }

    function _requireVoter(address account) private view returns (DepartmentId voter) {
        if (setupOpen) revert ConsortiumSetupStillOpen();
        voter = departmentOfGovernor[account];
        if (DepartmentId.unwrap(voter) == 0) revert ConsortiumNotAGovernor(account);
        _requireAdmitted(voter);
    }

    // ---- departments ----

    function _known(DepartmentId id) private view returns (Department storage entry) {
        entry = _departments[id];
        if (entry.state == DepartmentState.Unknown) revert ConsortiumDepartmentUnknown(id);
    }

    function _requireAdmitted(DepartmentId id) private view {
        DepartmentState state = _known(id).state;
        if (state != DepartmentState.Admitted) revert ConsortiumDepartmentNotAdmitted(id, state);
    }

    /// @dev `[a-z][a-z0-9-]{1,30}`, then zero bytes to the end: one id has one spelling.
    function _requireWellFormed(DepartmentId id) private pure {
        bytes32 text = DepartmentId.unwrap(id);
        uint256 length;
        while (length < 32 && text[length] != 0) {
            bytes1 c = text[length];
            bool letter = c >= "a" && c <= "z";
            bool other = (c >= "0" && c <= "9") || c == "-";
            if (!letter && (length == 0 || !other)) revert ConsortiumDepartmentIdMalformed(id);
            ++length;
        }
        bool clean = uint256(text) << (8 * length) == 0;
        if (length < 2 || length > 31 || !clean) revert ConsortiumDepartmentIdMalformed(id);
    }

    function _takeOrigin(DepartmentId id, string calldata logOrigin) private {
        if (bytes(logOrigin).length == 0) revert ConsortiumOriginEmpty(id);
        bytes32 hash = keccak256(bytes(logOrigin));
        if (_originTaken[hash]) revert ConsortiumOriginTaken(logOrigin);
        _originTaken[hash] = true;
    }

    function _takeGovernor(DepartmentId id, address governor) private {
        if (governor == address(0)) revert ConsortiumGovernorMissing(id);
        DepartmentId by = departmentOfGovernor[governor];
        if (DepartmentId.unwrap(by) != 0) revert ConsortiumGovernorTaken(governor, by);
        departmentOfGovernor[governor] = id;
    }

    // ---- keys ----

    function _openKey(DepartmentId id, KeyId kid, KeyUse use, bytes calldata publicKey, uint64 validFrom) private {
        _requireAdmitted(id);
        if (KeyId.unwrap(kid) == 0) revert ConsortiumKeyIdMissing(id);
        if (use == KeyUse.Unknown) revert ConsortiumKeyUseUnknown(kid);
        if (_keys[kid].use != KeyUse.Unknown) revert ConsortiumKeyExists(kid, _keys[kid].department);
        if (publicKey.length == 0 || publicKey.length > LONGEST_PUBLIC_KEY) {
            revert ConsortiumPublicKeyLength(kid, publicKey.length);
        }
        if (use == KeyUse.Anchor) _takeAnchorAccount(kid, publicKey);
        _keys[kid] = Key(id, use, validFrom, 0, publicKey);
        _keyIds[id].push(kid);
        emit KeyRegistered(id, kid, use, publicKey, validFrom, msg.sender);
    }

    function _closeKey(DepartmentId id, KeyId kid, uint64 validTo) private {
        Key storage entry = _keys[kid];
        if (entry.use == KeyUse.Unknown || !(entry.department == id)) revert ConsortiumKeyUnknown(kid, id);
        uint256 earliest = entry.validFrom > block.timestamp ? entry.validFrom : block.timestamp;
        if (validTo < earliest) revert ConsortiumKeyClosedInThePast(kid, validTo, earliest);
        if (entry.validTo != 0 && validTo >= entry.validTo) revert ConsortiumKeyAlreadyClosed(kid, entry.validTo);
        entry.validTo = validTo;
        emit KeyClosed(id, kid, validTo, msg.sender);
    }

    /// @dev The account of a secp256k1 key is the last 20 bytes of the keccak of its point.
    function _takeAnchorAccount(KeyId kid, bytes calldata publicKey) private {
        if (publicKey.length != ANCHOR_KEY_LENGTH) revert ConsortiumPublicKeyLength(kid, publicKey.length);
        address account = address(uint160(uint256(keccak256(publicKey))));
        KeyId by = _anchorKeys[account];
        if (KeyId.unwrap(by) != 0) revert ConsortiumAnchorAccountTaken(account, by);
        _anchorKeys[account] = kid;
    }

    function _isAnchorer(DepartmentId id, address account) private view returns (bool) {
        return _isKeyValidAt(id, _anchorKeys[account], KeyUse.Anchor, uint64(block.timestamp));
    }

    function _isKeyValidAt(DepartmentId id, KeyId kid, KeyUse use, uint64 time) private view returns (bool) {
        Key storage entry = _keys[kid];
        if (use == KeyUse.Unknown || entry.use != use || !(entry.department == id)) return false;
        return entry.validFrom <= time && (entry.validTo == 0 || time < entry.validTo);
    }

    // ---- modules ----

    /// @dev Without this one vote, or a slip, could let every log begin anew.
    function _requireSuccessor(address moduleAddress) private view {
        address current = module[EVIDENCE_LOG];
        if (current == address(0) || current == moduleAddress) return;
        address claimed;
        try IEvidenceLog(moduleAddress).predecessor() returns (IEvidenceLog found) {
            claimed = address(found);
        } catch {}
        if (claimed != current) revert ConsortiumNotSuccessor(moduleAddress, current, claimed);
    }

    // ---- proposals ----

    function _setMinimumVotes(uint16 minimum) private {
        if (minimum < SMALLEST_MINIMUM || minimum > admittedCount) revert ConsortiumMinimumVotes(minimum, admittedCount);
        emit MinimumVotesChanged(minimumVotes, minimum);
        minimumVotes = minimum;
    }

    function _openProposal(uint256 proposal) private view returns (Proposal storage entry) {
        if (proposal >= _proposals.length) revert ConsortiumProposalUnknown(proposal);
        entry = _proposals[proposal];
        if (entry.executed) revert ConsortiumProposalExecuted(proposal);
        if (block.timestamp >= entry.expiresAt) revert ConsortiumProposalExpired(proposal, entry.expiresAt);
    }

    function _positionOf(DepartmentId[] storage ids, DepartmentId id) private view returns (uint256 position) {
        while (position < ids.length && !(ids[position] == id)) ++position;
    }

    function _admittedAmong(DepartmentId[] storage ids) private view returns (uint256 count) {
        for (uint256 i; i < ids.length; ++i) {
            if (_departments[ids[i]].state == DepartmentState.Admitted) ++count;
        }
    }
}
