# Cascade Mask R-CNN, RepLKNet-XL pre-trained on MegData73M, COCO. The paper: 55.5 box AP, 48.0 mask AP.
#
# Official: 4 images per GPU, the number of GPUs not stated.
# 8 GPUs x 4 images x 36 epochs:
#   tools/dist_train.sh configs/cascade_mask_rcnn_replknetxl_coco.py 8
# 1 GPU x 4 images x 36 epochs, 8 iterations to a step:
#   python tools/train.py configs/cascade_mask_rcnn_replknetxl_coco.py --cfg-options
#   optim_wrapper.accumulative_counts=8 param_scheduler.0.end=4000
_base_ = 'cascade_mask_rcnn_replknet31b_coco.py'
model = dict(
    # As in its pre-training.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        arch='XL',
        drop_path_rate=0.5,
        init_cfg=dict(checkpoint='replknet-xl_meg73m-in1k-320')),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
