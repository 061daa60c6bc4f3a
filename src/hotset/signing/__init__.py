"""Signed versions: what a signature covers, the keys that make and check one, and the check before a load."""
