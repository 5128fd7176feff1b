# UperNet, SLaK-T pre-trained on ImageNet-1K, ADE20K at 512x512. The paper: 47.6 mIoU.
#
# Official: 4 GPUs x 4 images x 160k iterations, 1500 of warm-up. Here, the same steps:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_slak_t_ade20k.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_slak_t_ade20k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/upernet_slak.py', '_base_/datasets/ade20k.py', '_base_/schedules/adamw_160k_decay.py'
]
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='slak-t_in1k')),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(paramwise_cfg=dict(decay_type='stage_wise', num_layers=6))
custom_hooks = [*_base_.custom_hooks, dict(type='KeepSparsityHook')]
