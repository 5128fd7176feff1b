# Cascade Mask R-CNN, UniRepLKNet-XL pre-trained on ImageNet-22K, COCO. The paper: 56.4 box AP, 49.0 mask AP.
#
# Official: 8 GPUs x 2 images x 36 epochs; its file does not say which weights it starts from. Here, the same:
# 8 GPUs x 2 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_unireplknet_xl_coco_in22k.py 8
# 1 GPU x 2 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_unireplknet_xl_coco_in22k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = 'cascade_mask_rcnn_unireplknet_l_coco_in22k.py'
model = dict(
    backbone=dict(arch='XL', init_cfg=dict(checkpoint='unireplknet-xl_in22k-in1k-384')),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
