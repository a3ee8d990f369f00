"""Engines: how the perturbed values of f are had."""
