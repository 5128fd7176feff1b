# UperNet, UniRepLKNet-S pre-trained on ImageNet-22K, ADE20K at 512x512. The paper: 51.9 mIoU, multi-scale 52.7.
#
# Official: 8 GPUs x 2 images x 160k iterations, 1500 of warm-up. Here, the same:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_unireplknet_s_ade20k_in22k.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_unireplknet_s_ade20k_in22k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = 'upernet_unireplknet_s_ade20k.py'
model = dict(backbone=dict(init_cfg=dict(checkpoint='unireplknet-s_in22k-in1k-384')))
