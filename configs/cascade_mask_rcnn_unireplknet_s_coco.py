# Cascade Mask R-CNN, UniRepLKNet-S pre-trained on ImageNet-1K, COCO. The paper: 53.0 box AP, 45.9 mask AP.
#
# Official: 8 GPUs x 2 images x 36 epochs; its file does not say which weights it starts from. Here, the same:
# 8 GPUs x 2 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_unireplknet_s_coco.py 8
# 1 GPU x 2 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_unireplknet_s_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = 'cascade_mask_rcnn_unireplknet_t_coco.py'
model = dict(
    backbone=dict(arch='S', drop_path_rate=0.5, init_cfg=dict(checkpoint='unireplknet-s_in1k')),
    neck=dict(in_channels=[96, 192, 384, 768]))
