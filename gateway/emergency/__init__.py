"""Access without a grant when it cannot wait: where the owner allows it beforehand, loud, and justified afterwards."""
