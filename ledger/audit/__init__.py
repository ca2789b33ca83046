"""The audit: recompute everything from what is stored, believe nothing, and name the first thing that does not fit.

For each log, entry by entry, in constant memory:

1. Every index from 0 to the head's size - 1 has an entry, and none lies beyond.
2. The entry's statement hashes to its leaf in the level-0 tile. Where it does not, the statement's own signature tells
   which of the two was changed.
3. The statement is signed by a statement key of the department, at a time within that key's interval in the chain's
   registry, and its record id is the row's. A statement by an ended key does not stand behind later ones: nobody dates
   back with an old key. Its times fit the node's clock, its neighbours and the blocks of the anchors around it.
4. Every tile, recomputed from the statements, is the stored one, byte for byte.
5. At every size that a checkpoint was signed for or an anchor taken at: the recomputed root is the checkpoint's, the
   stored anchor's and the chain's own, and at the end the head's. The chain is asked, not the anchors table. Every
   stored cosignature of the checkpoint is good.
6. The payload opens under its data key with the statement's hash, and its disclosures are the statement's, all of them.
   The content mark beside it is that of the content.
7. Every attachment opens and has the size and SHA-256 that its disclosure names. The manifest of a decision is what the
   log had of its case before it.
8. The reports that feeds left in the log fit each other and the log (see ledger.feeds); one overdue is no finding.
9. A key or payload that is gone has its certificate (`record.destroyed`) later in the same log, of this record and its
   leaf; what a certificate names is gone, and was under no legal hold when the certificate came into the log.
10. Witnesses of this node stand where they signed, were shown one history, and cosigned what they should have.
11. Every time stamp is over this log's own tree, by an authority that is trusted; none is overdue.
12. Terminals that may hand in are those of the registry.
13. Both sides of every disclosure agree, and a grant in force at the time allowed it (`ledger.audit.exchanges`).

A record with a certificate skips 6 and 7 and is counted as forgotten; so is one that a terminal sealed for its
department, unless the department lends its recipient key. Nothing is written.

    findings    what is found, how bad it is, what follows from what
    bench       what a log is audited with, and the stretch of it that is one piece of work
    stretch     1 to 5 for one stretch          statements, clocks: read and held against each other
    vault       6, 7, 9                         logs: stretches put together
    beside      10 to 12                        exchanges: 13
    sample      some entries instead of all     workers, state: several processes, going on after a kill
    node        a node                          remote: a log over HTTP, without its content
    report      the signed audit report
"""

from ledger.audit.chain import AnchoredRoots, ChainRoots, Location, LogKeys
from ledger.audit.findings import CRITICAL, NOTICE, WARNING, Cause, Finding, LogReport
from ledger.audit.logs import LogAudit
from ledger.audit.node import NodeAudit, Options, audit_node, audit_nodes

__all__ = [
    "CRITICAL",
    "NOTICE",
    "WARNING",
    "AnchoredRoots",
    "Cause",
    "ChainRoots",
    "Finding",
    "Location",
    "LogAudit",
    "LogKeys",
    "LogReport",
    "NodeAudit",
    "Options",
    "audit_node",
    "audit_nodes",
]
