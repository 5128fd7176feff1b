# UperNet, RepLKNet-31B pre-trained on ImageNet-1K, Cityscapes at 769x769. The paper: 83.1 mIoU, multi-scale 83.5.
#
# Official: 32 GPUs x 2 images x 20k iterations, 400 of warm-up. Here, the same steps:
# 8 GPUs x 2 images x 80k iterations, 4 to a step:
#   tools/dist_train.sh configs/upernet_replknet31b_cityscapes_769.py 8
# 1 GPU x 2 images x 640k iterations, 32 to a step:
#   python tools/train.py configs/upernet_replknet31b_cityscapes_769.py --cfg-options
#   optim_wrapper.accumulative_counts=32 train_cfg.max_iters=640000 param_scheduler.0.end=12800
#   param_scheduler.1.begin=12800 param_scheduler.1.end=640000
_base_ = [
    '_base_/models/upernet_replknet31b.py', '_base_/datasets/cityscapes_769.py', '_base_/schedules/adamw_80k.py'
]
model = dict(
    data_preprocessor=dict(size=(769, 769)),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in1k')),
    decode_head=dict(num_classes=19, align_corners=True),
    auxiliary_head=dict(num_classes=19, align_corners=True))
optim_wrapper = dict(accumulative_counts=4)
