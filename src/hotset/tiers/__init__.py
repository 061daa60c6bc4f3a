"""The two cache levels. A tier knows keys, weights and opaque values, and nothing of catalogs, stores or runtimes."""
