"""Kinds of function that people check, and what a check of each takes."""
