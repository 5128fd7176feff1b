# UperNet, UniRepLKNet-S pre-trained on ImageNet-1K, ADE20K at 512x512. The paper: 50.5 mIoU, multi-scale 51.0.
#
# Official: 8 GPUs x 2 images x 160k iterations, 1500 of warm-up. Here, the same:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_unireplknet_s_ade20k.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_unireplknet_s_ade20k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = 'upernet_unireplknet_t_ade20k.py'
model = dict(
    backbone=dict(
        arch='S', drop_path_rate=0.3, with_cp=True, init_cfg=dict(checkpoint='unireplknet-s_in1k')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
