# Cascade Mask R-CNN, RepLKNet-31B pre-trained on ImageNet-1K, COCO. The paper: 52.2 box AP, 45.2 mask AP.
#
# Official: 1 image per GPU, the number of GPUs not stated.
# 8 GPUs x 4 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_replknet31b_coco.py 8
# 1 GPU x 4 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_replknet31b_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = [
    '_base_/models/cascade_mask_rcnn_replknet31b.py', '_base_/datasets/coco_instance.py',
    '_base_/schedules/adamw_3x.py'
]
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in1k')))
