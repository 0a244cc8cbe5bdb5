"""The models of the zoo, built from code with random weights; nothing is downloaded.

Knows nothing of pruning. The first models are those that other checks ask for by name; then come
the families, the small before the heavy.
"""

from modelzoo import others, text, timm_families, vision, yolo
from modelzoo.model import Built, Example, Family, Model

MODELS: tuple[Model, ...] = (
    *vision.FAST,
    *text.MODELS,
    *yolo.MODELS,
    *others.MODELS,
    *timm_families.MODELS,
    *vision.CLASSIFIERS,
    *vision.SEGMENTERS,
    *vision.DETECTORS,
    *vision.HEAVY,
)

__all__ = ["MODELS", "Built", "Example", "Family", "Model"]
