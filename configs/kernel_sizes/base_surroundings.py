# What large kernels are for, in minutes on a CPU: two networks that differ in kernel size alone, on pictures whose pale
# objects only the scene around them tells apart.
#
# The networks stay at fine strides, 4 and 8, and the head has 1x1 convolutions only: all that a pixel knows of its
# surroundings comes through the kernels. (Networks of four stages would see these pictures whole at stride 32, whatever
# their kernels.)
_base_ = ['../_base_/models/segmentor.py', '../_base_/datasets/mini_ade20k.py', '../_base_/schedules/adamw_160k.py']
max_iters = 400
data_root = 'data/mini_surroundings'
data_hint = ('Make it with "python tools/dataset_converters/make_mini_dataset.py surroundings '
             'data/mini_surroundings".')
data_counts = dict(train=300, val=60)
# Those of ADE20K's 150 classes that are drawn, by ADE20K's names.
classes = ('wall', 'building', 'sky', 'floor', 'tree', 'ceiling', 'road', 'bed ', 'grass', 'person', 'door', 'mountain',
           'plant', 'chair', 'car', 'painting', 'sofa', 'house', 'sea', 'rug', 'signboard', 'sand', 'boat', 'bus')
drawn = dict(data_root=data_root, metainfo=dict(classes=classes))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
train_dataloader = dict(batch_size=4, dataset=dict(drawn, pipeline=train_pipeline))
val_dataloader = dict(dataset=drawn)
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    backbone=dict(
        type='RepLKNet',
        arch=dict(layers=[1, 1], channels=[32, 64]),
        drop_path_rate=0.0,
        norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[32, 64],
        in_index=[0, 1],
        channels=64,
        dropout_ratio=0.0,
        num_classes=len(classes),
        norm_cfg=dict(type='SyncBN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=30, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
randomness = dict(seed=0)
