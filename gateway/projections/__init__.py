"""Tables made from the logs: the projector, and the index of subjects and references that others look things up in."""
