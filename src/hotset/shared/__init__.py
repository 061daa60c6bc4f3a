"""Memory that the gateway and its children share: large payloads cross in it, and are copied into it once."""
