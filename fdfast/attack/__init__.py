"""Adversarial images by either gradient."""

from __future__ import annotations

from fdfast.attack.gradient_sign import GradientKind, check_epsilon, fgsm

__all__ = ["GradientKind", "check_epsilon", "fgsm"]
