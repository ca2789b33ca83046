"""Looking things up across records: who looked at somebody's data, and whether somebody was inspected already."""
