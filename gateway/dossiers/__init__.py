"""Dossiers: what arrived for an inspection or a case, from whom, and what is still missing."""
