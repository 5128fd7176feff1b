# Cascade Mask R-CNN, UniRepLKNet-T pre-trained on ImageNet-1K, COCO. The paper: 51.7 box AP, 44.9 mask AP.
#
# Official: 8 GPUs x 2 images x 36 epochs; its file does not say which weights it starts from. Here, the same:
# 8 GPUs x 2 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_unireplknet_t_coco.py 8
# 1 GPU x 2 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_unireplknet_t_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = [
    '_base_/models/cascade_mask_rcnn.py', '_base_/datasets/coco_instance.py',
    '_base_/schedules/adamw_3x_decay.py'
]
model = dict(
    backbone=dict(
        type='UniRepLKNet',
        arch='T',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        norm_cfg=_base_.norm_cfg,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='unireplknet-t_in1k')),
    neck=dict(in_channels=[80, 160, 320, 640]))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12))  # as in the larger networks, though T has 9
