# UperNet, RepLKNet-31L pre-trained on ImageNet-22K, ADE20K at 640x640. The paper: 52.4 mIoU, multi-scale 52.7.
#
# Official: 64 GPUs x 1 image x 80k iterations, 800 of warm-up. Here, the same steps:
# 8 GPUs x 4 images x 160k iterations, 2 to a step:
#   tools/dist_train.sh configs/upernet_replknet31l_ade20k_in22k_640.py 8
# 1 GPU x 4 images x 1280k iterations, 16 to a step:
#   python tools/train.py configs/upernet_replknet31l_ade20k_in22k_640.py --cfg-options
#   optim_wrapper.accumulative_counts=16 train_cfg.max_iters=1280000 param_scheduler.0.end=12800
#   param_scheduler.1.begin=12800 param_scheduler.1.end=1280000
_base_ = 'upernet_replknet31b_ade20k_in22k_640.py'
model = dict(
    backbone=dict(
        arch='31L',
        init_cfg=dict(checkpoint='replknet-31l_in22k-in1k-384')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768))
optim_wrapper = dict(accumulative_counts=2)
