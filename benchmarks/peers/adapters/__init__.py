"""One module for each peer: how it is configured, started and asked."""
