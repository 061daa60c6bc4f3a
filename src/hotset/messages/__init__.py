"""gRPC's messages, described by ourselves and kept in a descriptor pool of our own. Needs the extra ``grpc``, but for ``fields``."""
