# Mask2Former, UniRepLKNet-L pre-trained on ImageNet-22K, ADE20K at 640x640. No result is published.
#
# No official run. Here, MMSegmentation's steps for Swin, with layer decay instead of a lower rate for the backbone:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/mask2former_unireplknet_l_ade20k_in22k_640.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/mask2former_unireplknet_l_ade20k_in22k_640.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/mask2former.py', '_base_/datasets/ade20k_32_640.py', '_base_/schedules/adamw_160k_mask2former.py'
]
custom_imports = dict(imports=['mmdet.models', 'mmreplk'])
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        type='UniRepLKNet',
        arch='L',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='unireplknet-l_in22k-in1k-384')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.85))
