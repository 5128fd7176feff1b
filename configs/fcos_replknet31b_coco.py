# FCOS, RepLKNet-31B pre-trained on ImageNet-1K, COCO. The paper's repository: 47.0 box AP.
#
# Official: 2 images per GPU, the number of GPUs not stated.
# 8 GPUs x 2 images x 24 epochs:
#   tools/dist_train.sh configs/fcos_replknet31b_coco.py 8
# 1 GPU x 2 images x 24 epochs, 8 iterations to a step:
#   python tools/train.py configs/fcos_replknet31b_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = [
    '_base_/models/fcos_replknet31b.py', '_base_/datasets/coco_detection.py', '_base_/schedules/adamw_3x.py'
]
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in1k')))
optim_wrapper = dict(optimizer=dict(lr=2e-4), clip_grad=dict(max_norm=35, norm_type=2))
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    dict(type='ConstantLR', factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=24, milestones=[16, 22], gamma=0.1)
]
train_cfg = dict(max_epochs=24)
