# Data Science Bowl 2018, stage 1, in COCO's format (docs/nuclei.md). Nuclei are 5 to 50 pixels wide, half of them less
# than 20: the network sees images at twice their size.
_base_ = 'coco_small.py'
data_root = 'data/nuclei/'
data_hint = ('Lay it out as data/nuclei/{train,val,test}/*.jpg and '
             'data/nuclei/annotations/instances_{train,val,test}.json (docs/nuclei.md).')
data_counts = dict(train=548, val=60, test=56)  # for tools/analysis_tools/check_dataset.py
metainfo = dict(classes=('nucleus', ), palette=[(220, 20, 60)])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    # Before resizing: otherwise hundreds of masks would be resized that the crop then leaves out.
    dict(type='RandomCrop', crop_size=(160, 160), recompute_bbox=True),
    dict(type='RandomResize', scale=(320, 320), ratio_range=(0.8, 1.4), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(256, 256), recompute_bbox=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=2.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs')
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[[dict(type='Resize', scale_factor=ratio, keep_ratio=True) for ratio in (1.5, 2.0, 2.5)],
                    [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
                    [dict(type='LoadAnnotations', with_bbox=True)],
                    [dict(type='PackDetInputs')]])
]
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'], ann_file='annotations/instances_test.json', data_prefix=dict(img='test/')))
# An image has up to 375 nuclei, but COCO counts the first 100 detections only: here AP50 counts the first 500.
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json', proposal_nums=(100, 300, 500))
test_evaluator = dict(val_evaluator, ann_file=data_root + 'annotations/instances_test.json')
