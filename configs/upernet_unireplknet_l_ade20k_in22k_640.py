# UperNet, UniRepLKNet-L pre-trained on ImageNet-22K, ADE20K at 640x640. The paper: 54.5 mIoU, multi-scale 55.0.
#
# Official: 8 GPUs x 2 images x 160k iterations, 1500 of warm-up. Here, the same:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_unireplknet_l_ade20k_in22k_640.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_unireplknet_l_ade20k_in22k_640.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = 'upernet_unireplknet_s_ade20k_in22k_640.py'
model = dict(
    backbone=dict(arch='L', drop_path_rate=0.4, init_cfg=dict(checkpoint='unireplknet-l_in22k-in1k-384')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.85))
