"""Measurements of fdfast, and the script that made the shipped data."""
