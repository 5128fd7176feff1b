# Mask2Former, RepLKNet-31B pre-trained on ImageNet-1K, ADE20K at 512x512. No result is published.
#
# No official run. Here, MMSegmentation's steps for Swin, with layer decay instead of a lower rate for the backbone:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/mask2former_replknet31b_ade20k.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/mask2former_replknet31b_ade20k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/mask2former.py', '_base_/datasets/ade20k_32.py', '_base_/schedules/adamw_160k_mask2former.py'
]
custom_imports = dict(imports=['mmdet.models', 'mmreplk'])
model = dict(
    backbone=dict(
        type='RepLKNet',
        arch='31B',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in1k')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
