# Cascade Mask R-CNN, SLaK-T pre-trained on ImageNet-1K, COCO. The paper: 51.3 box AP, 44.3 mask AP.
#
# Official: 16 images to a step, 2 per GPU, 36 epochs. Here, the same:
# 8 GPUs x 2 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_slak_t_coco.py 8
# 1 GPU x 2 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_slak_t_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = [
    '_base_/models/cascade_mask_rcnn.py', '_base_/datasets/coco_instance.py',
    '_base_/schedules/adamw_3x_decay.py'
]
model = dict(
    backbone=dict(
        type='SLaK',
        arch='T',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
        layer_scale=1.0,
        norm_cfg=_base_.norm_cfg,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='slak-t_in1k')),
    neck=dict(in_channels=[124, 249, 499, 998]))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(decay_rate=0.7))
custom_hooks = [*_base_.custom_hooks, dict(type='KeepSparsityHook')]
