"""Two counters that share nothing agree to the integer on networks of timm, of every kind that mixes positions."""

import warnings
from typing import Any

import pytest
import torch

from attnbench.core.case import Case
from attnbench.metrics.counters.dispatch import dispatch_count
from attnbench.metrics.counters.fvcore import fvcore_macs
from attnbench.metrics.subject import Subject

timm = pytest.importorskip("timm", reason="timm is not installed")

ATTENTION = """
    vit_tiny_patch16_224 deit3_small_patch16_224 cait_xxs24_224 pit_ti_224 swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 beit_base_patch16_224 xcit_nano_12_p16_224 crossvit_tiny_240 twins_pcpvt_small
    twins_svt_small coat_tiny convit_tiny levit_128s mobilevit_xxs mobilevitv2_050 edgenext_xx_small
    efficientformer_l1 maxvit_tiny_tf_224 coatnet_nano_rw_224 gcvit_xxtiny davit_tiny pvt_v2_b0 nest_tiny
    tnt_s_patch16_224 visformer_tiny volo_d1_224 mvitv2_tiny eva02_tiny_patch14_224 flexivit_small efficientvit_b0
    efficientvit_m0 hiera_tiny_224 caformer_s18 vit_relpos_small_patch16_224 tiny_vit_5m_224 swiftformer_xs
    mobilenetv4_hybrid_medium nextvit_small vit_base_patch16_siglip_224
"""
HYBRIDS = """
    lambda_resnet26t halonet26t botnet26t_256 bat_resnext26ts gcresnet33ts ecaresnet26t seresnet50 skresnet18
    resnest14d focalnet_tiny_srf
"""
MIXERS = """
    mixer_s32_224 gmixer_12_224 resmlp_12_224 gmlp_ti16_224 convmixer_768_32 poolformer_s12 mambaout_femto
"""
CONVOLUTIONS = """
    resnet50 vgg16_bn densenet121 mobilenetv3_small_050 efficientnet_b0 convnext_atto regnety_002 inception_v3
    ghostnet_050 res2net50_14w_8s
"""
NETWORKS = (ATTENTION + HYBRIDS + MIXERS + CONVOLUTIONS).split()


def network(name: str) -> Subject:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = timm.create_model(name, pretrained=False).eval()
        image = torch.empty(1, *module.default_cfg["input_size"])
    return Subject(Case(name, kind="network"), module, (image,), "meta")


def test_there_are_sixty_of_them() -> None:
    assert len(set(NETWORKS)) >= 60


@pytest.mark.parametrize("name", NETWORKS)
def test_the_two_counters_agree(name: str) -> None:
    subject = network(name)
    count = dispatch_count(subject)
    by_op, passed_over = fvcore_macs(subject)
    assert (dict(count.uncounted), dict(passed_over)) == ({}, {})
    assert count.macs == by_op.total() > 10**7
    assert count.by_module[""] == count.macs
