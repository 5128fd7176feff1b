# UperNet, SLaK-S pre-trained on ImageNet-1K, ADE20K at 512x512. The paper: 49.4 mIoU.
#
# Official: 4 GPUs x 4 images x 160k iterations, 1500 of warm-up. Here, the same steps:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_slak_s_ade20k.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_slak_s_ade20k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = 'upernet_slak_t_ade20k.py'
model = dict(backbone=dict(arch='S', drop_path_rate=0.3, init_cfg=dict(checkpoint='slak-s_in1k')))
optim_wrapper = dict(paramwise_cfg=dict(num_layers=12))
