"""The embedded chain: a durable EVM chain in one process, for development and single-machine use.

`create` makes a chain in a directory, once and on purpose; `ensure_running` returns the URL of its daemon and starts
one if none runs; `stop` ends it. None of this imports the EVM: that happens in the daemon.
"""

from ledger.chain.embedded.daemon import create, ensure_running, running_url, stop
from ledger.chain.embedded.directory import WARNING, ChainInfo, describe

__all__ = ["WARNING", "ChainInfo", "create", "describe", "ensure_running", "running_url", "stop"]
