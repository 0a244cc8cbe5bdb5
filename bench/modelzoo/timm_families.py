"""One small member of each of 115 families of timm, at small image sizes.

Where the smallest member is not small, its depth or width is lowered.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from modelzoo.model import Built, Family, Model, image

SIZE = 96
CLASSES = 1000  # some backbones come without a head
SIZED = 64  # of models that are built for one image size
THREE = {"depth": 3}
FOUR = {"depth": 4}

FREE = (  # run at any image size
    "convnext_atto",
    "convnextv2_atto",
    "cpubone_nano",
    "crossvit_tiny_240",
    "csatv2",
    "cs3darknet_s",
    "cspresnet50",
    "cspnext_tiny",
    "davit_tiny",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientnet_b0_gn",
    "mixnet_s",
    "mnasnet_small",
    "mobilenet_edgetpu_100",
    "tinynet_e",
    "efficientvim_m1",
    "efficientvit_b0",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "ghostnetv2_100",
    "ghostnetv3_050",
    "hgnetv2_b0",
    "sam2_hiera_tiny",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_v4",
    "lcnetv2_small",
    "lowformer_b0",
    "mambaout_femto",
    "caformer_s18",
    "poolformer_s12",
    "fbnetv3_b",
    "mobilenetv4_conv_small_035",
    "mobilenetv4_hybrid_medium",
    "nextvit_small",
    "eca_nfnet_l0",
    "pvt_v2_b0",
    "rdnet_tiny",
    "regnety_002",
    "repghostnet_050",
    "res2net50_14w_8s",
    "resnest14d",
    "ecaresnet26t",
    "resnetblur18",
    "resnetv2_50x1_bit",
    "rexnet_100",
    "selecsls42",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "tiny_vit_5m_224",
    "tresnet_m",
    "ese_vovnet19b_slim_dw",
    "xception41",
    "legacy_xception",
)

BUILT_FOR_ONE_SIZE: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 3, "embed_dim": 192, "num_heads": 6},
    "botnet26t_256": {},
    "halonet26t": {"img_size": 256},
    "lambda_resnet26rpt_256": {},
    "bat_resnext26ts": {"img_size": 256},
    "gcresnext26ts": {},
    "mobileone_s1": {},
    "regnetz_b16": {},
    "repvgg_a0": {},
    "cait_xxs24_224": {"depth": 6},
    "coat_tiny": {},
    "convit_tiny": {},
    "deepseek_vit_412m": {"img_size": 224, "depth": 3, "embed_dim": 256, "num_heads": 4},
    "deit_tiny_distilled_patch16_224": FOUR,
    "efficientformer_l1": {"img_size": 224},
    "efficientformerv2_s0": {},
    "efficientvit_m0": {},
    "eva02_tiny_patch14_224": {**FOUR, "img_size": 56},
    "vit_small_patch16_dinov3": THREE,
    "gcvit_xxtiny": {},
    "gemma4_vit_167m": THREE,
    "hiera_tiny_224": {},
    "levit_128s": {},
    "coatnet_pico_rw_224": {},
    "maxvit_rmlp_tiny_rw_256": {},
    "maxxvit_rmlp_nano_rw_256": {},
    "gmlp_ti16_224": {},
    "mixer_s16_224": {},
    "resmlp_12_224": {},
    "mobilevit_xxs": {},
    "mobilevitv2_050": {},
    "mvitv2_tiny": {},
    "naflexvit_base_patch16_gap": THREE,
    "nest_tiny": {},
    "pit_ti_224": {},
    "qwen3_vit_88m": THREE,
    "repvit_m0_9": {},
    "sequencer2d_s": {},
    "swiftformer_xs": {},
    "swin_tiny_patch4_window7_224": {},
    "swinv2_tiny_window8_256": {},
    "swinv2_cr_tiny_ns_224": {},
    "tnt_s_legacy_patch16_224": {},
    "twins_pcpvt_small": {},
    "twins_svt_small": {},
    "visformer_tiny": {},
    "vit_tiny_patch16_224": FOUR,
    "vit_tiny_r_s16_p8_224": FOUR,
    "vit_relpos_small_patch16_224": THREE,
    "samvit_base_patch16": THREE,
    "vitamin_small_224": {},
    "volo_d1_224": {},
    "xcit_nano_12_p16_224": FOUR,
}

LARGE = ("convmixer_768_32", "nasnetalarge", "pnasnet5large")


def free(name: str) -> Built:
    import timm

    return timm.create_model(name, num_classes=CLASSES), image(SIZE)


def sized(name: str, options: dict[str, Any]) -> Built:
    import timm

    options = {"img_size": SIZED, "num_classes": CLASSES, **options}
    return timm.create_model(name, **options), image(options["img_size"])


def plain(build: Callable[..., Built], *arguments: Any) -> Built:
    """With attention spelled out: exporters refuse some uses of the fused operator."""
    import timm

    timm.layers.set_fused_attn(False)
    return build(*arguments)


def _entry(name: str, build: Callable[..., Built], *options: Any) -> Model:
    arguments = (build, name, *options)
    return Model(f"timm_{name}", Family.TIMM, partial(*arguments), plain=partial(plain, *arguments))


MODELS: tuple[Model, ...] = (
    *(_entry(name, sized, options) for name, options in BUILT_FOR_ONE_SIZE.items()),
    *(_entry(name, free) for name in (*FREE, *LARGE)),
)
