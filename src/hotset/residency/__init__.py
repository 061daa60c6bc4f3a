"""Residency: what joins the catalog, the tiers, the store and the workers. Every decision of a request's life is here."""
