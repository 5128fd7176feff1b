# UperNet, RepLKNet-XL pre-trained on MegData73M, ADE20K at 640x640. The paper: 55.2 mIoU, multi-scale 56.0.
#
# Official: 16 GPUs x 2 images x 160k iterations, 1500 of warm-up, on its test pipeline by mistake. Here, the
# same steps on the training pipeline:
# 8 GPUs x 4 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_replknetxl_ade20k_640.py 8
# 1 GPU x 4 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_replknetxl_ade20k_640.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = 'upernet_replknet31b_ade20k_in22k_640.py'
model = dict(
    # As in its pre-training.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        arch='XL',
        drop_path_rate=0.5,
        init_cfg=dict(checkpoint='replknet-xl_meg73m-in1k-320')),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024))
optim_wrapper = dict(accumulative_counts=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000)
]
