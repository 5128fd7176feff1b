# Cascade Mask R-CNN, UniRepLKNet-B pre-trained on ImageNet-22K, COCO. The paper: 54.8 box AP, 47.4 mask AP.
#
# Official: 8 GPUs x 2 images x 36 epochs; its file does not say which weights it starts from. Here, the same:
# 8 GPUs x 2 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_unireplknet_b_coco_in22k.py 8
# 1 GPU x 2 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_unireplknet_b_coco_in22k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = 'cascade_mask_rcnn_unireplknet_s_coco_in22k.py'
model = dict(
    backbone=dict(arch='B', drop_path_rate=0.6, init_cfg=dict(checkpoint='unireplknet-b_in22k-in1k-384')),
    neck=dict(in_channels=[128, 256, 512, 1024]))
