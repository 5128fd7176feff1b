# UperNet, UniRepLKNet-S pre-trained on ImageNet-22K, ADE20K at 640x640. The paper: 52.3 mIoU, multi-scale 52.7.
#
# Official: 8 GPUs x 2 images x 160k iterations, 1500 of warm-up. Here, the same:
# 8 GPUs x 2 images x 160k iterations, each a step:
#   tools/dist_train.sh configs/upernet_unireplknet_s_ade20k_in22k_640.py 8
# 1 GPU x 2 images x 1280k iterations, 8 to a step:
#   python tools/train.py configs/upernet_unireplknet_s_ade20k_in22k_640.py --cfg-options
#   optim_wrapper.accumulative_counts=8 train_cfg.max_iters=1280000 param_scheduler.0.end=12000
#   param_scheduler.1.begin=12000 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/upernet_unireplknet.py', '_base_/datasets/ade20k_32_640.py',
    '_base_/schedules/adamw_160k_decay.py'
]
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        arch='S',
        drop_path_rate=0.3,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='unireplknet-s_in22k-in1k-384')),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
train_dataloader = dict(batch_size=2)
