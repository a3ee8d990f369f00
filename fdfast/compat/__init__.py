"""Drop-in replacements: the calls of other packages, answered with all perturbed rows at once."""
