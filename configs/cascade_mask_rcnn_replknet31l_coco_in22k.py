# Cascade Mask R-CNN, RepLKNet-31L pre-trained on ImageNet-22K, COCO. The paper: 53.9 box AP, 46.5 mask AP.
#
# Official: 1 image per GPU, the number of GPUs not stated.
# 8 GPUs x 4 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_replknet31l_coco_in22k.py 8
# 1 GPU x 4 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_replknet31l_coco_in22k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = 'cascade_mask_rcnn_replknet31b_coco.py'
model = dict(
    backbone=dict(
        arch='31L',
        drop_path_rate=0.7,
        init_cfg=dict(checkpoint='replknet-31l_in22k-in1k-384')),
    neck=dict(in_channels=[192, 384, 768, 1536]))
