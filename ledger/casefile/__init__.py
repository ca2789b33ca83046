"""Case files: the records of a case and their proofs in one file for a court (`ledger.formats.casefile`)."""
