// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Proofs of the RFC 9162 Merkle tree, SHA-256
/// @notice The functions return the roots a proof leads to; the caller compares them. OpenZeppelin's MerkleProof is
/// another tree (sorted pairs, keccak, no domain separation) and does not fit here.
library Rfc9162 {
    error Rfc9162ProofTooLong(uint256 length);
    error Rfc9162ProofTooShort(uint256 length);
    error Rfc9162IndexOutOfRange(uint64 index, uint64 size);

    /// @notice RFC 9162 section 2.1.4.2, steps 2 to 6.
    /// @param first the old size; 0 < first < second, which is the caller's to check
    /// @param firstRoot the known root of the old tree, where the proof leaves it out because `first` is a power of two
    function rootsFromConsistency(uint64 first, uint64 second, bytes32 firstRoot, bytes32[] calldata proof)
        internal
        view
        returns (bytes32 oldRoot, bytes32 newRoot)
    {
        uint256 next;
        if (first & (first - 1) == 0) {
            oldRoot = firstRoot;
        } else {
            if (proof.length == 0) revert Rfc9162ProofTooShort(0);
            oldRoot = proof[0];
            next = 1;
        }
        newRoot = oldRoot;
        uint256 fn = first - 1;
        uint256 sn = second - 1;
        for (; fn & 1 == 1; fn >>= 1) sn >>= 1;

        for (; next < proof.length; ++next) {
            if (sn == 0) revert Rfc9162ProofTooLong(proof.length);
            bytes32 node = proof[next];
            if (fn & 1 == 1 || fn == sn) {
                oldRoot = hashChildren(node, oldRoot);
                newRoot = hashChildren(node, newRoot);
                for (; fn & 1 == 0 && fn != 0; fn >>= 1) sn >>= 1;
            } else {
                newRoot = hashChildren(newRoot, node);
            }
            fn >>= 1;
            sn >>= 1;
        }
        if (sn != 0) revert Rfc9162ProofTooShort(proof.length);
    }

    /// @notice RFC 9162 section 2.1.3.2.
    function rootFromInclusion(uint64 index, uint64 size, bytes32 leafHash, bytes32[] calldata path)
        internal
        view
        returns (bytes32 root)
    {
        if (index >= size) revert Rfc9162IndexOutOfRange(index, size);
        root = leafHash;
        uint256 fn = index;
        uint256 sn = size - 1;
        for (uint256 i; i < path.length; ++i) {
            if (sn == 0) revert Rfc9162ProofTooLong(path.length);
            if (fn & 1 == 1 || fn == sn) {
                root = hashChildren(path[i], root);
                for (; fn & 1 == 0 && fn != 0; fn >>= 1) sn >>= 1;
            } else {
                root = hashChildren(root, path[i]);
            }
            fn >>= 1;
            sn >>= 1;
        }
        if (sn != 0) revert Rfc9162ProofTooShort(path.length);
    }

    /// @notice SHA-256(0x01 || left || right), the interior node of RFC 9162 section 2.1.1.
    function hashChildren(bytes32 left, bytes32 right) internal view returns (bytes32 node) {
        // `sha256(abi.encodePacked(..))` would take new memory for each of up to 128 nodes; this reuses one place.
        assembly ("memory-safe") {
            let place := mload(0x40)
            mstore8(place, 0x01)
            mstore(add(place, 1), left)
            mstore(add(place, 33), right)
            // The precompile fails only for want of gas; then the whole call must fail too.
            if iszero(staticcall(gas(), 0x02, place, 65, 0x00, 32)) { revert(0, 0) }
            node := mload(0x00)
        }
    }
}
