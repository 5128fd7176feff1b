_base_ = 'segmentation.py'
dataset_type = 'ADE20KDataset'  # its files number the classes from 1 on, which it tells the transforms
data_root = 'data/ade/ADEChallengeData2016'
data_hint = ('Download http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip and unpack it into '
             'data/ade, or make a small stand-in with "python tools/dataset_converters/make_mini_dataset.py ade20k '
             'data/mini_ade20k" and name it with --cfg-options data_root=data/mini_ade20k.')
data_counts = dict(train=20210, val=2000)  # for tools/analysis_tools/check_dataset.py
crop_size = (512, 512)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    # The ground truth stays at its own size: predictions are resized to it.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[[
            dict(type='Resize', scale=(int(2048 * ratio), int(512 * ratio)), keep_ratio=True)
            for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
        ], [
            dict(type='RandomFlip', prob=0., direction='horizontal'),
            dict(type='RandomFlip', prob=1., direction='horizontal')
        ], [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
