# UperNet, RepLKNet-31B pre-trained on ImageNet-1K, ADE20K at 512x512. The paper: 49.9 mIoU, multi-scale 50.6.
#
# Official: 64 GPUs x 2 images x 40k iterations, 400 of warm-up. Here, the same steps:
# 8 GPUs x 4 images x 160k iterations, 4 to a step:
#   tools/dist_train.sh configs/upernet_replknet31b_ade20k.py 8
# 1 GPU x 4 images x 1280k iterations, 32 to a step:
#   python tools/train.py configs/upernet_replknet31b_ade20k.py --cfg-options
#   optim_wrapper.accumulative_counts=32 train_cfg.max_iters=1280000 param_scheduler.0.end=12800
#   param_scheduler.1.begin=12800 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/upernet_replknet31b.py', '_base_/datasets/ade20k.py', '_base_/schedules/adamw_160k.py'
]
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in1k')))
optim_wrapper = dict(accumulative_counts=4)
