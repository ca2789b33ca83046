"""Telling another department of a record in one's own log, until it has heard."""
