# UperNet, SLaK-T pre-trained on ImageNet-1K, Cityscapes at 769x769. No result is published.
#
# No official run. Here, the crops and images of upernet_replknet31b_cityscapes_769.py, 16 images to a step:
# 8 GPUs x 2 images x 80k iterations, each a step:
#   tools/dist_train.sh configs/upernet_slak_t_cityscapes_769.py 8
# 1 GPU x 2 images x 640k iterations, 8 to a step:
#   python tools/train.py configs/upernet_slak_t_cityscapes_769.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=640000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=640000
_base_ = [
    '_base_/models/upernet_slak.py', '_base_/datasets/cityscapes_769.py', '_base_/schedules/adamw_80k_decay.py'
]
model = dict(
    data_preprocessor=dict(size=(769, 769)),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='slak-t_in1k')),
    decode_head=dict(num_classes=19, align_corners=True),
    auxiliary_head=dict(num_classes=19, align_corners=True))
optim_wrapper = dict(paramwise_cfg=dict(decay_type='stage_wise', num_layers=6))
custom_hooks = [*_base_.custom_hooks, dict(type='KeepSparsityHook')]
