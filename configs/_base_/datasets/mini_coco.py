# Drawn by tools/dataset_converters/make_mini_dataset.py, in COCO's format.
_base_ = 'coco_small.py'
data_root = 'data/mini_coco/'
data_hint = 'Make it with "python tools/dataset_converters/make_mini_dataset.py coco data/mini_coco".'
data_counts = dict(train=300, val=40)
metainfo = dict(classes=('shape', ), palette=[(220, 20, 60)])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs')
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[[dict(type='Resize', scale=(size, size), keep_ratio=True) for size in (96, 128, 160)],
                    [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
                    [dict(type='LoadAnnotations', with_bbox=True)],
                    [dict(type='PackDetInputs')]])
]
train_dataloader = dict(
    num_workers=1, dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
