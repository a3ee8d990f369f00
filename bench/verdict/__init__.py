"""Correct models that must not be accused, faulty ones that must be found, and the usual rules on the same cases."""
