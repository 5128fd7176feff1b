# DINO with four scales, RepLKNet-31B pre-trained on ImageNet-1K, COCO. No result is published.
#
# No official run. Here, MMDetection's steps for ResNet-50, with layer decay instead of a lower rate for the backbone:
# 8 GPUs x 2 images x 12 epochs:
#   tools/dist_train.sh configs/dino_replknet31b_coco.py 8
# 1 GPU x 2 images x 12 epochs, 8 iterations to a step:
#   python tools/train.py configs/dino_replknet31b_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = [
    '_base_/models/dino.py', '_base_/datasets/coco_crops.py', '_base_/schedules/adamw_1x_dino.py'
]
model = dict(
    backbone=dict(
        type='RepLKNet',
        arch='31B',
        out_indices=(1, 2, 3),
        drop_path_rate=0.3,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in1k')),
    neck=dict(in_channels=[256, 512, 1024]))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
