"""Trusted time: tokens of time-stamping authorities (RFC 3161) over anchored checkpoints, and their renewal."""
