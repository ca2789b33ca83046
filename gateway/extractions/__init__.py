"""Extractions: the owner decides, logs and sends; the requester verifies, logs and keeps. See docs/extractions.md."""
