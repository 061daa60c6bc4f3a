"""Codecs: the bytes of a protocol's body to tensors or payloads, and back. They run in the workers, never in the gateway."""
