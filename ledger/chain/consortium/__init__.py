"""Consortium chains: what to write so that departments' own validators run one, and a real one on loopback.

keys     a validator's key: address, enode, public JWK
clique   genesis of a go-ethereum proof-of-authority chain
geth     go-ethereum processes on loopback: start, kill, partition, heal; for tests and trials, not for production
qbft     genesis of a Besu QBFT chain, its extraData
besu     everything an operator needs for a Besu QBFT consortium, as files
"""
