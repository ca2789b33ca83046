"""Witnessing as C2SP tlog-witness defines it: the witness, its HTTP service, and the log's side that asks witnesses.

protocol   the request and the answers               pure
core       the witness's state machine               pure but for the store and clock it is given
store      its state in a database                   server, directory  a witness of its own, without a node
client     one witness, asked                        rounds             all witnesses of a node, asked by clock
split      the proof that a log shows two histories  pure
"""
