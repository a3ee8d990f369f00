"""Attacks on defended models: what is said of them, and what it takes to break them, beside other libraries."""
