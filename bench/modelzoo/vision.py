"""Every classifier, segmenter and detector of torchvision, at small image sizes."""

from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from modelzoo.model import Built, Family, Model, image

SIZE = 96
SIZES = {  # where another size does not run, or is not how the architecture is used
    "alexnet": 224,
    "vgg": 224,
    "maxvit_t": 224,
    "swin_v2": 256,
    "swin": 224,
    "vit_h_14": 56,
    "resnet18": 224,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
LARGE = (  # more than 250 MB of weights
    "convnext_large",
    "convnext_base",
    "efficientnet_b7",
    "efficientnet_v2_l",
    "regnet_x_16gf",
    "regnet_x_32gf",
    "regnet_y_128gf",
    "regnet_y_16gf",
    "regnet_y_32gf",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "swin_b",
    "swin_v2_b",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vit_b_16",
    "vit_b_32",
    "vit_h_14",
    "vit_l_16",
    "vit_l_32",
    "wide_resnet101_2",
    "wide_resnet50_2",
)
GIANTS = ("vit_l_32", "vit_l_16", "regnet_y_128gf", "vit_h_14")


def size_of(name: str) -> int:
    """The size for the longest prefix of the name."""
    prefixes = [prefix for prefix in SIZES if name.startswith(prefix)]
    return SIZES[max(prefixes, key=len)] if prefixes else SIZE


def classifier(name: str, size: int | None = None) -> Built:
    size = size or size_of(name)
    options = OPTIONS.get(name, {})
    if name.startswith("vit_"):
        options = {"image_size": size}
    return torchvision.models.get_model(name, weights=None, **options), image(size)


def small_vit() -> Built:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128
    )
    return model, image(32)


class Segmenter(nn.Module):
    """The scores of every pixel."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)["out"]


def segmenter(name: str) -> Built:
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    return Segmenter(model), image(SIZE)


class Detector(nn.Module):
    """One image in; its boxes, labels, scores and whatever else the detector finds out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model([picture])[0].values())


def detector(name: str) -> Built:
    """Few boxes and always as many, whatever they score and overlap: a trace holds their number."""
    proposals = {
        "rpn_pre_nms_top_n_test": 50,
        "rpn_post_nms_top_n_test": 20,
        "rpn_score_thresh": 0.0,
        "rpn_nms_thresh": 1.0,
    }
    two_stages = {
        "box_score_thresh": 0.0,
        "box_nms_thresh": 1.0,
        "box_detections_per_img": 10,
        **proposals,
    }
    one_stage = {
        "score_thresh": 0.0,
        "nms_thresh": 1.0,
        "detections_per_img": 10,
        "topk_candidates": 50,
    }
    options = two_stages if "rcnn" in name else one_stage
    smallest = {} if name.startswith("ssd") else {"min_size": 128, "max_size": 128}
    model = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, **options, **smallest
    )
    if "rcnn" in name:
        model.rpn.min_size = 0.0
    _enliven(model)
    return Detector(model), (image(128)[0][0],)


def _enliven(model: nn.Module) -> None:
    """Heads start near zero: without a larger scale the anchors decide on the output alone."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            scale = layer.weight[0].numel() ** -0.5
            if layer.weight.std() < 0.3 * scale:
                nn.init.normal_(layer.weight, std=scale)


def _classifier(name: str) -> Model:
    return Model(name, Family.CLASSIFICATION, partial(classifier, name), fast=name == "resnet18")


def _rank(name: str) -> int:
    return GIANTS.index(name) if name in GIANTS else -1


FAST: tuple[Model, ...] = (
    Model(
        "mobilenet_v3_small_64",
        Family.CLASSIFICATION,
        partial(classifier, "mobilenet_v3_small", 64),
        fast=True,
    ),
    Model(
        "shufflenet_v2_x1_0_64",
        Family.CLASSIFICATION,
        partial(classifier, "shufflenet_v2_x1_0", 64),
        fast=True,
    ),
    Model("vit_small_32", Family.CLASSIFICATION, small_vit, fast=True),
)
_NAMES = torchvision.models.list_models(module=torchvision.models)
CLASSIFIERS = tuple(_classifier(name) for name in _NAMES if name not in LARGE)
HEAVY = tuple(_classifier(name) for name in sorted(LARGE, key=_rank))
SEGMENTERS = tuple(
    Model(name, Family.SEGMENTATION, partial(segmenter, name))
    for name in torchvision.models.list_models(module=torchvision.models.segmentation)
)
DETECTORS = tuple(
    Model(name, Family.DETECTION, partial(detector, name), dynamic=False)
    for name in torchvision.models.list_models(module=torchvision.models.detection)
)
