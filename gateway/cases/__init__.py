"""Cases, in their simplest lawful form: filed by two officers, records attached, closed with an outcome."""
