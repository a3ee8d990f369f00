"""Adversarial examples by any gradient, estimates of gradients from values alone, and which gradient to trust."""

from __future__ import annotations

from fdfast.attack.adapters import for_art, for_foolbox
from fdfast.attack.diagnosis import MaskingReport, masking
from fdfast.attack.estimators import GradientEstimate, estimate
from fdfast.attack.gradient_sign import fgsm
from fdfast.attack.inputs import check_epsilon
from fdfast.attack.projected import pgd
from fdfast.attack.result import Attacked
from fdfast.attack.slopes import GradientKind
from fdfast.attack.training import augment

__all__ = [
    "Attacked",
    "GradientEstimate",
    "GradientKind",
    "MaskingReport",
    "augment",
    "check_epsilon",
    "estimate",
    "fgsm",
    "for_art",
    "for_foolbox",
    "masking",
    "pgd",
]
