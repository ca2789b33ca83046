"""The contribution ledger: what each department gave, got and refused, and how fast; counted from the logs."""
