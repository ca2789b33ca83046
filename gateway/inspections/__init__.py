"""Joint inspections (综合查一次): opened with subjects, participants and purpose; records attached; closed."""
