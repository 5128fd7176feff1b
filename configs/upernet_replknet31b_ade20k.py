# UperNet, RepLKNet-31B pre-trained on ImageNet-1K, ADE20K at 512x512, 160k iterations on one node of 8 GPUs.
# The paper reports 49.9 mIoU single-scale for its 64-GPU run of the same number of images (Table 6).
_base_ = [
    '_base_/models/upernet_replknet31b.py', '_base_/datasets/ade20k.py', '_base_/schedules/adamw_160k.py'
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/replknet/'
            'RepLKNet-31B_ImageNet-1K_224_20221024-debd6715.pth',
            prefix='backbone.')))
