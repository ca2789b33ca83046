"""Recalls and corrections follow the data: who extracted a record is told, must acknowledge, and sees stale copies."""
