"""What joint inspections and cases have in common: opened, joined, added to, closed; each step is a record."""
