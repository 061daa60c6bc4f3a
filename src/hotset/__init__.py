"""hotset: one endpoint, thousands of models; only the hot set stays in memory."""
