# UperNet, RepLKNet-31B pre-trained on ImageNet-22K, ADE20K at 640x640. The paper: 51.5 mIoU, multi-scale 52.3.
#
# Official: 64 GPUs x 2 images x 40k iterations, 400 of warm-up. Here, the same steps:
# 8 GPUs x 4 images x 160k iterations, 4 to a step:
#   tools/dist_train.sh configs/upernet_replknet31b_ade20k_in22k_640.py 8
# 1 GPU x 4 images x 1280k iterations, 32 to a step:
#   python tools/train.py configs/upernet_replknet31b_ade20k_in22k_640.py --cfg-options
#   optim_wrapper.accumulative_counts=32 train_cfg.max_iters=1280000 param_scheduler.0.end=12800
#   param_scheduler.1.begin=12800 param_scheduler.1.end=1280000
_base_ = [
    '_base_/models/upernet_replknet31b.py', '_base_/datasets/ade20k_640.py', '_base_/schedules/adamw_160k.py'
]
crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='replknet-31b_in22k-in1k')),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(426, 426)))
optim_wrapper = dict(accumulative_counts=4)
