"""fdfast beside the tools that people use instead, on the same weights and the same real digit."""
