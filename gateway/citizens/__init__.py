"""The citizen's check: what the QR code on a served decision leads to, without signing in."""
