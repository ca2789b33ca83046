"""Grants: which department may extract what of whose records, for what, until when; given and read on the chain."""
