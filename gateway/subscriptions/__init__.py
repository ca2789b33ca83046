"""What happens in a department's log, told to its systems: signed webhooks, server-sent events. Ids and types only."""
