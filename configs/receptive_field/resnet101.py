# ResNet-101 as the paper measures it beside RepLKNet; with zero_init_residual, its blocks would begin as identities.
_base_ = '../upernet_resnet50_camvid.py'
model = dict(backbone=dict(type='ResNet', depth=101, zero_init_residual=False))
