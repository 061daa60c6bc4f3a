"""The doors over gRPC: the Open Inference Protocol, health and reflection. Needs the extra ``grpc``."""
