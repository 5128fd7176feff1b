# DINO with four scales, UniRepLKNet-L pre-trained on ImageNet-22K, COCO. No result is published.
#
# No official run. Here, MMDetection's steps for ResNet-50, with layer decay instead of a lower rate for the backbone:
# 8 GPUs x 2 images x 12 epochs:
#   tools/dist_train.sh configs/dino_unireplknet_l_coco_in22k.py 8
# 1 GPU x 2 images x 12 epochs, 8 iterations to a step:
#   python tools/train.py configs/dino_unireplknet_l_coco_in22k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = 'dino_replknet31b_coco.py'
model = dict(
    backbone=dict(
        type='UniRepLKNet',
        arch='L',
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint='unireplknet-l_in22k-in1k-384')),
    neck=dict(in_channels=[384, 768, 1536]))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.7))
