"""The other departments' nodes: who they are by the chain's registry, and signed requests to them."""
