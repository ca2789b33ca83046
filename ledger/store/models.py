"""The tables of a node's ledger.

table        trusted?                                          may it lose data?                       grows with
logs         no: head is recomputed from tiles, and anchored   no; the compare-and-swap row            departments
entries      no: each row is checked by its leaf in the tiles  no; acknowledged statements             records
vault        no: AES-GCM under the statement's hash            no, but for wrapped keys destroyed      records
tiles        no: recomputed from entries by the audit          could be rebuilt from entries           records / 255
attachments  no: streaming AEAD, digest in the statement       no; the files lie in the blob store     attachments
uploads      no: size and digest are checked when taken        yes, the client uploads again           files coming in
keks         no: HPKE, opens only for the department           no; losing one forgets its epoch        epochs
terminals    yes: who may hand in sealed records               no; enrol again                         terminals
destructions no: what it names is read in the log              no                                      records forgotten
holds        yes, by forgetting; the audit reads the log       no                                      holds placed
shreds       yes: how far the last shredding came              yes, it is begun anew                   shreddings
case_entries no: each row is in the entry's statement          rebuilt from the statements             entries of cases
checkpoints  no: signed notes                                  could be signed again at the same size  anchoring rounds
anchors      no: a copy of what the chain says                 could be read from the chain again      anchoring rounds
cosignatures no: signed by the witnesses                       no; a witness signs only its newest     anchoring rounds
witness_…    heads: yes, they are what a witness promises      heads: never, see docs/witnesses.md     logs × witnesses
matter_lists no: copies of what is sealed in the log           rebuilt by `yunxi matters rebuild`      lists published
matters      no: the newest list of each log                   rebuilt by `yunxi matters rebuild`      matters

`position` numbers an entry across the node: log number × 2^40 + index in its log. One integer key keeps a log's
rows in order, costs no second index, and leaves room for 8 million logs of 10^12 entries.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

INDEX_BITS = 40

logs = Table(
    "logs",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("department", String(31), nullable=False, unique=True),
    Column("origin", String(200), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("halted", Text, nullable=True),
)

entries = Table(
    "entries",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("record_id", LargeBinary(16), nullable=False),
    Column("key", String(200), nullable=False),
    Column("content_mark", LargeBinary(16), nullable=False),
    Column("acknowledged_at", BigInteger, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("log", Integer, nullable=False),
    Index("entries_record", "record_id", unique=True),
    Index("entries_key", "log", "key", unique=True),
)

vault = Table(
    "vault",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("wrapped_key", LargeBinary(40), nullable=True),
    Column("payload", LargeBinary, nullable=False),
)

attachments = Table(
    "attachments",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("blob", String(64), nullable=False),
    # where the blob has a key of its own: AES-KW under a key made of the record's data key
    Column("wrapped_key", LargeBinary(40), nullable=True),
)

# the entries that carry a case's number, for manifests and case files
case_entries = Table(
    "case_entries",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("case", String(100), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
)

# files on their way in; the bytes lie in the node's uploads/ until they are whole, then in the blob store
uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("department", String(31), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    # the stream key under the KEK of this epoch; both None where what arrives is ciphertext already
    Column("epoch", Integer, nullable=True),
    Column("wrapped_key", LargeBinary(40), nullable=True),
    Column("rest", LargeBinary, nullable=True),
    Column("declared", String(64), nullable=True),
    Column("sha256", String(64), nullable=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("uploads_department", "department"),
    Index("uploads_expiry", "expires_at"),
)

keks = Table(
    "keks",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("recipient", String(43), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # of a KEK that a terminal drew: the kid of its statement key, and the 16 bytes that it named the KEK with
    Column("terminal", String(43), nullable=True),
    Column("name", LargeBinary(16), nullable=True),
    Index("keks_of_terminal", "log", "terminal", "name", unique=True),
)

# the devices that seal for a department; keys are raw Ed25519, `recipient` is raw X25519
terminals = Table(
    "terminals",
    metadata,
    Column("kid", String(43), primary_key=True),
    Column("log", Integer, nullable=False),
    Column("name", String(64), nullable=False),
    Column("public", LargeBinary(32), nullable=False),
    Column("request_kid", String(43), nullable=False, unique=True),
    Column("request", LargeBinary(32), nullable=False),
    Column("recipient", LargeBinary(32), nullable=False),
    Column("offline_s", BigInteger, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=True),
)

tiles = Table(
    "tiles",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("tile", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("signed_at", BigInteger, nullable=False),
)

anchors = Table(
    "anchors",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract", String(42), nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("transaction", LargeBinary(32), nullable=False),
    Column("block_time", BigInteger, nullable=False),
    Column("anchored_at", BigInteger, nullable=False),
)

cosignatures = Table(
    "cosignatures",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("witness", String(400), primary_key=True),
    Column("line", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)

# how asking a witness for one of our logs went the last time
witness_calls = Table(
    "witness_calls",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("witness", String(400), primary_key=True),
    Column("asked_at", BigInteger, nullable=False),
    Column("problem", Text, nullable=True),
    Column("refused", Boolean, nullable=False),
)

# the state of the witnesses that run on this database, by their verifier keys
witness_heads = Table(
    "witness_heads",
    metadata,
    Column("witness", String(400), primary_key=True),
    Column("origin", String(200), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=True),
)

witness_conflicts = Table(
    "witness_conflicts",
    metadata,
    Column("witness", String(400), primary_key=True),
    Column("origin", String(200), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), primary_key=True),
    Column("note", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=True),
    Column("proven", Boolean, nullable=False),
    Column("kept_at", BigInteger, nullable=False),
)


matter_lists = Table(
    "matter_lists",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("as_of", String(10), nullable=False),
    Column("published_at", BigInteger, nullable=False),
)

# days as YYYY-MM-DD; the last day of what has no end is 9999-12-31
matters = Table(
    "matters",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("code", String(64), primary_key=True),
    Column("effective_from", String(10), primary_key=True),
    Column("effective_to", String(10), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("legal_basis", Text, nullable=False),
    Column("level", Text, nullable=False),
)


# trusted time; `size` is the checkpoint's, or for a renewal how many of the log's tokens it covers
timestamps = Table(
    "timestamps",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("renewal", Boolean, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("authority", String(100), nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Index("timestamps_size", "log", "renewal", "size", "authority", unique=True),
)

timestamp_calls = Table(
    "timestamp_calls",
    metadata,
    Column("authority", String(100), primary_key=True),
    Column("asked_at", BigInteger, nullable=False),
    Column("problem", Text, nullable=True),
)


# a forgotten record, and the certificate of its destruction; both positions
destructions = Table(
    "destructions",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("by_position", BigInteger, nullable=False),
)

# legal holds by the position of the record that placed them; `lifted_by` is the position of the one that ended them
holds = Table(
    "holds",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("log", Integer, nullable=False),
    Column("scope", String(12), nullable=False),
    Column("value", String(100), nullable=False),
    Column("lifted_by", BigInteger, nullable=True),
    Index("holds_scope", "log", "scope", "value"),
)

# `epoch` is the KEK that surviving records move to, `kid` the encryption key that stays, from `in_force` on
shreds = Table(
    "shreds",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("kid", String(43), nullable=False),
    Column("in_force", BigInteger, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=True),
)


def position_of(log: int, index: int) -> int:
    """The position of entry `index` of log number `log`."""
    return (log << INDEX_BITS) | index


def index_of(position: int) -> int:
    """The index in its log of the entry at `position`."""
    return position & ((1 << INDEX_BITS) - 1)


def log_of(position: int) -> int:
    """The log number of the entry at `position`."""
    return position >> INDEX_BITS
