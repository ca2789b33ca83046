"""What the ledger says, in other people's formats: one a file. Nothing of the ledger reads these again."""
