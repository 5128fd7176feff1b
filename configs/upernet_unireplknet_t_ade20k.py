# UperNet, UniRepLKNet-T pre-trained on ImageNet-1K, ADE20K at 512x512. The paper: 48.6 mIoU, multi-scale 49.1.
#
# Official: 8 GPUs x 2 images x 160k iterations, 1500 of warm-up. Here, the same:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_unireplknet_t_ade20k.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_unireplknet_t_ade20k.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/upernet_unireplknet.py', '_base_/datasets/ade20k_32.py',
    '_base_/schedules/adamw_160k_decay.py'
]
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='unireplknet-t_in1k')))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
